//! The task that hears, decides and reports.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ahash::RandomState;
use serde::{Deserialize, Serialize};
use swarmbus_core::{
    Event, Payload, Priority, Str,
    breaker::evidence::{Advice, Evidence, EvidenceConfig, Report},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, timeout},
};

use super::{ServiceEvidence, SharedEvidenceBuilder};
use crate::{
    bus::WeakBus,
    clock::BusClock,
    lease::{Grant, LeaseError, LeaseStore},
    pipeline::breaker::NamedBreaker,
    transport::{Channel, Inbox, Incoming, Transport},
};

const TYPE: &str = "swarmbus.breaker.evidence";

pub(super) struct Exchange {
    bus: WeakBus,
    transport: Arc<dyn Transport>,
    leases: Arc<dyn LeaseStore>,
    channel: Channel,
    config: EvidenceConfig,
    interval: Duration,
    me: u64,
    services: HashMap<Str, Service, RandomState>,
    view: watch::Sender<Vec<ServiceEvidence>>,
    /// Questions to the leases, each about one service.
    asking: JoinSet<(Str, Result<Grant, LeaseError>)>,
    /// A report on its way, and leases that are given back.
    sending: JoinSet<()>,
}

struct Service {
    evidence: Evidence,
    /// The leases have been asked and have not answered.
    is_asking: bool,
    /// The lease to probe that is held.
    lease: Option<u64>,
}

/// A report as it travels.
#[derive(Serialize, Deserialize)]
struct Said {
    service: String,
    #[serde(flatten)]
    report: Report,
}

impl Exchange {
    pub(super) fn new(
        settings: SharedEvidenceBuilder,
        bus: WeakBus,
        channel: Channel,
        view: watch::Sender<Vec<ServiceEvidence>>,
    ) -> Self {
        Self {
            bus,
            transport: settings.transport,
            leases: settings.leases,
            channel,
            config: settings.config,
            interval: settings.interval,
            me: fastrand::u64(..),
            services: HashMap::default(),
            view,
            asking: JoinSet::new(),
            sending: JoinSet::new(),
        }
    }

    pub(super) async fn run(mut self, mut inbox: Inbox) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let clock = BusClock::new();
        loop {
            tokio::select! {
                incoming = inbox.next() => match incoming {
                    Some(Incoming::Event(received)) => self.hear(&received.event, &clock),
                    // The next report tells what a lost one did.
                    Some(_) => {}
                    None => return,
                },
                _ = ticks.tick() => if !self.tick(&clock) { return },
                Some(asked) = self.asking.join_next() => {
                    // One that panicked has told nothing.
                    if let Ok((name, answer)) = asked {
                        self.answered(&name, answer, &clock);
                    }
                }
                Some(_) = self.sending.join_next() => {}
            }
        }
    }

    /// From anybody: what is no report, or of no service here, is nothing.
    fn hear(&mut self, event: &Event, clock: &BusClock) {
        if event.ty().as_str() != TYPE {
            return;
        }
        let Ok(said) = event.decode::<Vec<Said>>() else { return };
        let now = swarmbus_core::Clock::now(&clock);
        for Said { service, report } in said {
            if let Some(service) = self.services.get_mut(service.as_str()) {
                service.evidence.hear(&report, now);
            }
        }
    }

    /// `false` when the bus is gone.
    fn tick(&mut self, clock: &BusClock) -> bool {
        let Some(bus) = self.bus.upgrade() else { return false };
        let breakers = bus.inner().breakers.services();
        self.services.retain(|name, _| breakers.iter().any(|(living, _)| living == name));
        let mut said = Vec::new();
        for (name, breaker) in &breakers {
            if let Some(report) = self.decide(name, breaker, &bus.inner().clock, clock) {
                said.push(Said { service: name.as_str().to_owned(), report });
            }
        }
        // One at a time: the next has newer news.
        if !said.is_empty() && self.sending.is_empty() {
            self.send(&said);
        }
        let view = self.services.iter().map(|(name, service)| ServiceEvidence {
            name: name.clone(),
            is_open: service.evidence.is_open(),
            nodes: service.evidence.nodes(),
        });
        self.view.send_replace(view.collect());
        true
    }

    fn decide(
        &mut self,
        name: &Str,
        breaker: &NamedBreaker,
        bus_clock: &BusClock,
        clock: &BusClock,
    ) -> Option<Report> {
        let now = swarmbus_core::Clock::now(&clock);
        let new = || Service {
            evidence: Evidence::new(self.config, self.me),
            is_asking: false,
            lease: None,
        };
        let service = self.services.entry(name.clone()).or_insert_with(new);
        let advice = service.evidence.step(&breaker.stats(), now);
        if advice != Advice::Probe && advice != Advice::Recovered {
            // It failed: nobody is to probe until the lease has run out.
            service.lease = None;
        }
        match advice {
            Advice::Alone | Advice::Probe => {}
            // Until after the next time, though that may be late.
            Advice::KeepOpen => breaker.keep_open(self.interval * 2, bus_clock),
            Advice::AskToProbe => {
                breaker.keep_open(self.interval * 2, bus_clock);
                if !service.is_asking {
                    service.is_asking = true;
                    self.ask(name);
                }
            }
            Advice::Recovered => {
                if let Some(token) = service.lease.take() {
                    self.release(name, token);
                }
            }
            Advice::Close => breaker.reset(bus_clock),
        }
        self.services.get_mut(name)?.evidence.report(now)
    }

    fn send(&mut self, said: &[Said]) {
        let Ok(payload) = Payload::msgpack(said) else { return };
        let event = Event::of(TYPE, payload)
            .with_source(format!("{:016x}", self.me))
            .with_priority(Priority::MAX);
        let (transport, channel) = (Arc::clone(&self.transport), self.channel.clone());
        let limit = self.interval;
        self.sending.spawn(async move {
            // What cannot be sent now is out of date later.
            let _ = timeout(limit, transport.publish(&channel, event)).await;
        });
    }

    fn ask(&mut self, name: &Str) {
        let (leases, holder) = (Arc::clone(&self.leases), self.holder());
        let (name, ttl) = (name.clone(), self.config.open_for);
        self.asking.spawn(async move {
            let answer = timeout(ttl, leases.acquire(&lease_name(&name), &holder, ttl)).await;
            let late = || Err(LeaseError::unavailable("no answer in time"));
            (name, answer.unwrap_or_else(|_| late()))
        });
    }

    fn answered(&mut self, name: &Str, answer: Result<Grant, LeaseError>, clock: &BusClock) {
        let now = swarmbus_core::Clock::now(&clock);
        let Some(service) = self.services.get_mut(name) else { return };
        service.is_asking = false;
        match answer {
            Ok(Grant::Granted { token }) => {
                if service.evidence.granted(token, now) {
                    service.lease = Some(token);
                } else {
                    self.release(name, token);
                }
            }
            Ok(Grant::Held { left }) => service.evidence.refused(left, now),
            // Nobody to ask.
            Err(_) => drop(service.evidence.granted(0, now)),
        }
    }

    fn release(&mut self, name: &Str, token: u64) {
        let (leases, holder, name) = (Arc::clone(&self.leases), self.holder(), name.clone());
        let limit = self.config.open_for;
        self.sending.spawn(async move {
            let _ = timeout(limit, leases.release(&lease_name(&name), &holder, token)).await;
        });
    }

    fn holder(&self) -> String {
        format!("{:016x}", self.me)
    }
}

fn lease_name(service: &Str) -> String {
    format!("probe:{service}")
}
