//! `swarmbus doctor`: whether a Redis server is fit, and what to change.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use comfy_table::ContentArrangement;
use serde::Serialize;
use swarmbus_redis::doctor::{Finding, Verdict, examine};

use super::{
    print,
    server::{GET_ONE, ServerArg},
    table,
};

/// Look whether a Redis server is fit for swarmbus, and say what to change.
///
/// Looks at version, role, persistence, memory, eviction, output buffers,
/// clients, the permissions of the user in the URL, latency and clock. Changes
/// nothing.
///
/// The exit code is 1 if there is a problem; a warning is none.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    server: ServerArg,

    /// One JSON object in place of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    server: &'a str,
    verdict: &'static str,
    findings: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    check: &'static str,
    verdict: &'static str,
    found: &'a str,
    /// What to change.
    advice: Option<&'a str>,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let settings = args.server.settings()?;
    let mut findings = examine(&settings).await.map_err(|error| anyhow!("{error}"))?;
    // Without any server, there is nothing else to look at.
    if let [Finding { check: "connection", advice: Some(advice), .. }] = &mut findings[..] {
        advice.push_str(&format!(" {GET_ONE}"));
    }
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    if args.json {
        let lines = findings.iter().map(|finding| Line {
            check: finding.check,
            verdict: finding.verdict.name(),
            found: &finding.found,
            advice: finding.advice.as_deref(),
        });
        let (server, verdict) = (settings.address(), worst.name());
        let report = Report { server: &server, verdict, findings: lines.collect() };
        print(serde_json::to_string(&report)?)?;
    } else {
        print(text(&settings.address(), &findings, worst))?;
    }
    Ok(if worst == Verdict::Problem { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(server: &str, findings: &[Finding], worst: Verdict) -> String {
    let mut table = table(["check", "", "found"]);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    for finding in findings {
        table.add_row([finding.check, finding.verdict.name(), &finding.found]);
    }
    let mut text = table.to_string();
    // Outside of the table, so that it can be copied.
    for finding in findings {
        if let Some(advice) = &finding.advice {
            text.push_str(&format!("\n{}: {advice}", finding.check));
        }
    }
    let end = match worst {
        Verdict::Ok => "is fit",
        Verdict::Warning => "works, with what is said above",
        Verdict::Problem => "is not fit",
    };
    format!("{text}\n{server} {end}")
}
