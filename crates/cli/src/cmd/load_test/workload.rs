//! What tasks carry: random bytes, or the events of a file.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::value::RawValue;
use swarmbus::{EventType, Priority, core::codec::json};

use super::{message::Body, swarm::task_type};

/// Longest line in bytes.
const MAX_LINE: usize = 1 << 20;

/// How much of a file is kept.
const MAX_LINES: usize = 10_000;
const MAX_BYTES: usize = 64 << 20;

/// One event to replay.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) ty: String,
    pub(super) priority: Priority,
    pub(super) body: Body,
}

/// The events of a file, to be replayed from the first to the last and over
/// again.
#[derive(Clone, Debug)]
pub(super) struct Replay {
    pub(super) templates: Arc<[Template]>,
    /// There was more than is kept.
    pub(super) cut: bool,
}

/// Reads a file, or standard input if it is `-`.
pub(super) fn read(path: &Path) -> Result<Replay> {
    if path == Path::new("-") {
        return parse(io::stdin().lock(), "standard input");
    }
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| {
        format!("cannot open {name}: check --events, or pipe into `--events -`")
    })?;
    parse(BufReader::new(file), &name)
}

fn parse(mut from: impl BufRead, name: &str) -> Result<Replay> {
    let (mut templates, mut bytes, mut cut) = (Vec::new(), 0, false);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = from.by_ref().take(MAX_LINE as u64 + 2).read_until(b'\n', &mut line);
        read.with_context(|| format!("{name}, line {number}: cannot read"))?;
        if line.is_empty() {
            break;
        }
        let text = line.trim_ascii();
        if text.len() > MAX_LINE {
            bail!("{name}, line {number}: longer than 1 MiB; split it, or leave it out");
        }
        if text.is_empty() {
            continue;
        }
        if templates.len() == MAX_LINES || bytes + text.len() > MAX_BYTES {
            cut = true;
            break;
        }
        bytes += text.len();
        let template = template(text);
        templates.push(template.with_context(|| format!("{name}, line {number}"))?);
    }
    if templates.is_empty() {
        bail!("{name} has no events: --events wants one JSON object on each line");
    }
    Ok(Replay { templates: templates.into(), cut })
}

/// The members of a plain object that may hold its type.
#[derive(Deserialize)]
struct Plain<'a> {
    specversion: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    ty: Option<&'a RawValue>,
    event_type: Option<&'a RawValue>,
    event: Option<&'a RawValue>,
    reason: Option<&'a RawValue>,
    kind: Option<&'a RawValue>,
}

fn template(line: &[u8]) -> Result<Template> {
    let plain: Plain = serde_json::from_slice(line)
        .context("not a JSON object; --events wants one on each line")?;
    if plain.specversion.is_some() {
        let event = json::from_json(line).context("not a CloudEvents 1.0 event")?;
        let ty = event.ty().as_str().to_owned();
        longest(&ty).context("the type is too long to address it to an agent")?;
        let body = Body::new(event.payload().clone());
        return Ok(Template { ty, priority: event.priority(), body });
    }
    let named = [plain.ty, plain.event_type, plain.event, plain.reason, plain.kind];
    let ty = named.into_iter().flatten().find_map(|value| {
        let text: String = serde_json::from_str(value.get()).ok()?;
        longest(&text).ok().map(|_| text)
    });
    Ok(Template {
        ty: ty.unwrap_or_else(|| "line".to_owned()),
        priority: Priority::DEFAULT,
        body: Body::new(line.to_vec()),
    })
}

/// The type that a task of this type gets, for the worker with the longest
/// name.
fn longest(ty: &str) -> Result<EventType, swarmbus::core::event::EventTypeError> {
    task_type(99_999, Some(ty))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(text: &str) -> Result<Vec<String>> {
        let replay = parse(text.as_bytes(), "test")?;
        Ok(replay.templates.iter().map(|template| template.ty.clone()).collect())
    }

    fn error(text: &str) -> String {
        format!("{:#}", types(text).unwrap_err())
    }

    #[test]
    fn the_type_is_the_first_field_that_makes_one() {
        let lines = [
            r#"{"type":"a.b","kind":"c"}"#,
            r#"{"type":"not a type","event":7,"reason":"compiler-artifact"}"#,
            r#"{"event_type":null,"kind":"x"}"#,
            r#"{"package":"p","other":{"type":"no"}}"#,
        ];
        assert_eq!(types(&lines.join("\n")).unwrap(), ["a.b", "compiler-artifact", "x", "line"]);
    }

    #[test]
    fn a_cloud_event_brings_its_payload_and_priority() {
        let line =
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","priority":8,"data":[1]}"#;
        let template = template(line.as_bytes()).unwrap();
        assert_eq!((template.ty.as_str(), template.priority.get()), ("t", 8));
        let note = crate::cmd::load_test::message::Note {
            what: crate::cmd::load_test::message::What::Task,
            coordinator: 0,
            task: 0,
            began: 0,
        };
        assert!(template.body.payload(note, 0).ends_with(b"[1]"));
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(error(""), "test has no events: --events wants one JSON object on each line");
        assert!(error("\n \n").starts_with("test has no events"));
        assert!(error("{}\n\n[1]\n").starts_with("test, line 3: not a JSON object"));
        assert!(error("{}\n{\"a\":").starts_with("test, line 2: not a JSON object"));
        let event = r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#;
        assert!(error(event).starts_with("test, line 1: not a CloudEvents 1.0 event: "));
        let long = format!("{{}}\n\"{}\"", "x".repeat(MAX_LINE));
        assert!(error(&long).starts_with("test, line 2: longer than 1 MiB"));
        let ty = "x".repeat(240);
        let event = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"{ty}"}}"#);
        assert!(error(&event).contains("too long"));
    }

    #[test]
    fn only_so_much_is_kept() {
        let replay = parse("{}\n".repeat(MAX_LINES).as_bytes(), "test").unwrap();
        assert!(!replay.cut);
        let replay = parse("{}\n".repeat(MAX_LINES + 1).as_bytes(), "test").unwrap();
        assert!(replay.cut);
        assert_eq!(replay.templates.len(), MAX_LINES);
        let line = format!("{{\"a\":\"{}\"}}\n", "x".repeat(MAX_LINE - 100));
        assert!(parse(line.repeat(66).as_bytes(), "test").unwrap().cut);
    }

    #[test]
    fn a_line_at_the_limit_and_windows_line_ends_are_read() {
        let line = format!("{{\"a\":\"{}\"}}\r\n", "x".repeat(MAX_LINE - 8));
        assert_eq!(types(&line.repeat(2)).unwrap(), ["line", "line"]);
    }
}
