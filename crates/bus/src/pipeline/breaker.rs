//! Layer: circuit breakers. Spares a failing handler, and its callers.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ahash::RandomState;
use metrics::Gauge;
use parking_lot::Mutex;
use swarmbus_core::{
    EventType, Priority, Str,
    breaker::{Breaker, Config, Permit, Rejected, StateKind, Stats, Ticket, Transition},
};

use super::living::Living;
use crate::{clock::BusClock, error::SubscribeError, metrics::Meter};

/// What shares one circuit breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BreakerScope {
    /// Each event type that the handler sees has a breaker of its own: a
    /// type that always fails does not stop the others. Beyond
    /// [`MAX_TYPES`] types, further ones share one.
    #[default]
    PerType,
    /// All events of the handler share one.
    PerHandler,
    /// All handlers that name this service share one, whatever they handle.
    /// The first to name it decides its settings; it ends with the last.
    Service(Str),
    /// None: every event reaches the handler.
    Off,
}

/// How many types of one handler have a breaker of their own.
pub const MAX_TYPES: usize = 1_000;

/// One breaker of a bus, seen from outside.
#[derive(Clone, Debug)]
pub struct BreakerReport {
    /// The handler's or the service's name.
    pub name: Arc<str>,
    /// The event type that it is for; `None` for all.
    pub event_type: Option<EventType>,
    /// Its statistics.
    pub stats: Stats,
}

/// What somebody decides about breakers by hand: see
/// [`Bus::set_breakers`](crate::Bus::set_breakers).
///
/// ```
/// use swarmbus::{BreakerOrder, Bus, BreakerScope, Event};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::builder().build()?;
/// let mailer = BreakerScope::Service("mailer".into());
/// let _mail = bus.subscribe("mail.due").breaker(mailer).handle(|_: &Event| ())?;
/// // The mailer is being moved: nobody is to call it.
/// assert_eq!(bus.set_breakers("mailer", BreakerOrder::ForceOpen), 1);
/// assert_eq!(bus.dispatch(&Event::of("mail.due", ())).await?.delivered, 0);
/// bus.set_breakers("mailer", BreakerOrder::Reset);
/// assert_eq!(bus.dispatch(&Event::of("mail.due", ())).await?.delivered, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerOrder {
    /// Close, whatever the state, and forget what was seen.
    Reset,
    /// Open as if by the rules, and recover as usual.
    Trip,
    /// Reject every call until another order.
    ForceOpen,
    /// Let every call through and record nothing, until another order.
    Disable,
    /// Let every call through, and only count when it would have opened, until
    /// another order.
    MetricsOnly,
    /// Reject every call until [`Reset`](Self::Reset), and obey nothing else.
    Isolate,
}

/// A breaker with what its changes are reported under.
pub(crate) struct NamedBreaker {
    name: Arc<str>,
    event_type: Option<EventType>,
    breaker: Breaker,
    /// `None` without a bus.
    meter: Option<Arc<Meter>>,
    /// Registered at the first change: most breakers never have one.
    gauge: OnceLock<Gauge>,
}

impl NamedBreaker {
    /// One that belongs to no bus.
    pub(crate) fn alone(name: &Arc<str>, config: Config) -> Self {
        Self {
            name: Arc::clone(name),
            event_type: None,
            breaker: Breaker::new(config),
            meter: None,
            gauge: OnceLock::new(),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.breaker.stats()
    }

    /// Closes it, whatever its state, and forgets what it has seen.
    pub(crate) fn reset(&self, clock: &BusClock) {
        self.obey(BreakerOrder::Reset, clock);
    }

    fn obey(&self, order: BreakerOrder, clock: &BusClock) {
        let breaker = &self.breaker;
        let transition = match order {
            BreakerOrder::Reset => breaker.reset(clock),
            BreakerOrder::Trip => breaker.trip(clock),
            BreakerOrder::ForceOpen => breaker.force_open(clock),
            BreakerOrder::Disable => breaker.disable(clock),
            BreakerOrder::MetricsOnly => breaker.metrics_only(clock),
            BreakerOrder::Isolate => breaker.isolate(clock),
        };
        if let Some(transition) = transition {
            self.changed(transition);
        }
    }

    /// Open for at least so long from now.
    pub(crate) fn keep_open(&self, time: Duration, clock: &BusClock) {
        if let Some(transition) = self.breaker.keep_open(time, clock) {
            self.changed(transition);
        }
    }

    #[cold]
    #[inline(never)]
    fn resolve(&self, ticket: Ticket, success: bool, clock: &BusClock) {
        leave(Some(self.breaker.attach(ticket)), Some(self), success, clock);
    }

    fn changed(&self, transition: Transition) {
        let event_type = self.event_type.as_ref().map_or("*", EventType::as_str);
        tracing::info!(handler = &*self.name, event_type, "circuit breaker: {transition}");
        let Some(meter) = &self.meter else { return };
        let gauge = self.gauge.get_or_init(|| meter.breaker(&self.name, event_type));
        gauge.set(match transition.to {
            StateKind::Closed | StateKind::Disabled | StateKind::MetricsOnly => 0.0,
            StateKind::HalfOpen => 1.0,
            StateKind::Open | StateKind::ForcedOpen | StateKind::Isolated => 2.0,
        });
    }
}

impl Drop for NamedBreaker {
    /// It turns nobody away any more.
    fn drop(&mut self) {
        if let Some(gauge) = self.gauge.get() {
            gauge.set(0.0);
        }
    }
}

/// On the way in of a call that cannot be cut off: a ticket, if a quiet breaker
/// is asked. Most are, and a permit is more to carry.
#[inline(always)]
pub(crate) fn enter_if_quiet(breaker: Option<&NamedBreaker>, priority: Priority) -> Option<Ticket> {
    let named = breaker.filter(|_| !priority.bypasses_breaker())?;
    named.breaker.acquire_if_quiet()
}

/// On the way out of such a call.
#[inline(always)]
pub(crate) fn leave_if_quiet(
    ticket: Ticket,
    breaker: Option<&NamedBreaker>,
    success: bool,
    clock: &BusClock,
) {
    let Some(named) = breaker else { return };
    if !(success && named.breaker.is_quiet()) {
        named.resolve(ticket, success, clock);
    }
}

/// On the way in: a permit, if there is a breaker; priorities 8 and 9 always
/// get one.
#[inline(always)]
pub(crate) fn enter<'a>(
    breaker: Option<&'a NamedBreaker>,
    priority: Priority,
    clock: &BusClock,
) -> Result<Option<Permit<'a>>, Rejected> {
    let Some(named) = breaker else { return Ok(None) };
    if priority.bypasses_breaker() {
        return Ok(Some(named.breaker.bypass()));
    }
    match named.breaker.acquire(clock) {
        Ok(permit) => {
            if let Some(transition) = permit.transition() {
                named.changed(transition);
            }
            Ok(Some(permit))
        }
        Err(rejected) => {
            if let Some(transition) = rejected.transition {
                named.changed(transition);
            }
            Err(rejected)
        }
    }
}

/// On the way out: tells the breaker how it went.
#[inline(always)]
pub(crate) fn leave(
    permit: Option<Permit<'_>>,
    breaker: Option<&NamedBreaker>,
    success: bool,
    clock: &BusClock,
) {
    let (Some(permit), Some(named)) = (permit, breaker) else { return };
    if let Some(transition) = permit.resolve(success, clock) {
        named.changed(transition);
    }
}

/// The breakers of one handler.
pub(crate) enum BreakerLayer {
    Off,
    One(Arc<NamedBreaker>),
    PerType(Box<PerType>),
}

pub(crate) struct PerType {
    registry: Arc<Registry>,
    name: Arc<str>,
    config: Config,
    by_type: Mutex<HashMap<EventType, Arc<NamedBreaker>, RandomState>>,
    /// For the types beyond the limit.
    shared: Mutex<Option<Arc<NamedBreaker>>>,
}

impl BreakerLayer {
    /// The breaker for events of this type.
    pub(crate) fn of_type(&self, ty: &EventType) -> Option<Arc<NamedBreaker>> {
        match self {
            Self::Off => None,
            Self::One(breaker) => Some(Arc::clone(breaker)),
            Self::PerType(per_type) => Some(per_type.of_type(ty)),
        }
    }
}

impl PerType {
    fn of_type(&self, ty: &EventType) -> Arc<NamedBreaker> {
        let mut by_type = self.by_type.lock();
        if let Some(breaker) = by_type.get(ty) {
            return Arc::clone(breaker);
        }
        let new = |ty| self.registry.make(&self.name, ty, self.config.clone());
        if by_type.len() >= MAX_TYPES {
            return Arc::clone(self.shared.lock().get_or_insert_with(|| new(None)));
        }
        Arc::clone(by_type.entry(ty.clone()).or_insert(new(Some(ty.clone()))))
    }
}

/// Whose breakers are not closed.
pub(crate) struct Troubled {
    pub(crate) open: Option<Arc<str>>,
    pub(crate) half_open: Option<Arc<str>>,
}

/// All breakers of one bus.
pub(crate) struct Breakers {
    registry: Arc<Registry>,
    services: Mutex<HashMap<Str, Weak<NamedBreaker>, RandomState>>,
    max_services: usize,
}

pub(crate) struct Registry {
    meter: Arc<Meter>,
    made: Living<NamedBreaker>,
    seed: AtomicU64,
}

impl Registry {
    fn make(
        &self,
        name: &Arc<str>,
        event_type: Option<EventType>,
        config: Config,
    ) -> Arc<NamedBreaker> {
        let config = config.with_seed(self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed));
        self.made.add(NamedBreaker {
            name: Arc::clone(name),
            event_type,
            breaker: Breaker::new(config),
            meter: Some(Arc::clone(&self.meter)),
            gauge: OnceLock::new(),
        })
    }
}

impl Breakers {
    pub(crate) fn new(meter: Arc<Meter>, max_services: usize, seed: u64) -> Self {
        let registry = Registry { meter, made: Living::default(), seed: AtomicU64::new(seed) };
        Self { registry: Arc::new(registry), services: Mutex::default(), max_services }
    }

    /// The layer of a new handler.
    pub(crate) fn layer(
        &self,
        name: &Arc<str>,
        scope: BreakerScope,
        config: Config,
    ) -> Result<BreakerLayer, SubscribeError> {
        Ok(match scope {
            BreakerScope::Off => BreakerLayer::Off,
            BreakerScope::PerHandler => BreakerLayer::One(self.registry.make(name, None, config)),
            BreakerScope::PerType => BreakerLayer::PerType(Box::new(PerType {
                registry: Arc::clone(&self.registry),
                name: Arc::clone(name),
                config,
                by_type: Mutex::default(),
                shared: Mutex::default(),
            })),
            BreakerScope::Service(service) => BreakerLayer::One(self.service(service, config)?),
        })
    }

    fn service(&self, service: Str, config: Config) -> Result<Arc<NamedBreaker>, SubscribeError> {
        let mut services = self.services.lock();
        if let Some(breaker) = services.get(&service).and_then(Weak::upgrade) {
            return Ok(breaker);
        }
        if services.len() >= self.max_services {
            services.retain(|_, breaker| breaker.strong_count() > 0);
        }
        if services.len() >= self.max_services {
            return Err(SubscribeError::TooManyServices { limit: self.max_services });
        }
        let breaker = self.registry.make(&Arc::from(service.as_str()), None, config);
        services.insert(service, Arc::downgrade(&breaker));
        Ok(breaker)
    }

    /// The services that handlers share a breaker for, with it.
    pub(crate) fn services(&self) -> Vec<(Str, Arc<NamedBreaker>)> {
        let services = self.services.lock();
        let living = services
            .iter()
            .filter_map(|(name, breaker)| breaker.upgrade().map(|breaker| (name.clone(), breaker)));
        living.collect()
    }

    /// Opens the breaker of a service early, if handlers share one and it is not
    /// open.
    pub(crate) fn trip_service(&self, service: &Str, clock: &BusClock) {
        let named = self.services.lock().get(service).and_then(Weak::upgrade);
        if let Some(named) = named {
            named.obey(BreakerOrder::Trip, clock);
        }
    }

    /// Has all breakers of this name obey an order; returns how many there are.
    pub(crate) fn set(&self, name: &str, order: BreakerOrder, clock: &BusClock) -> usize {
        let made = self.registry.made.all();
        let named = made.iter().filter(|named| &*named.name == name);
        named.map(|named| named.obey(order, clock)).count()
    }

    /// The first breaker that rejects calls and the first that is probing, in the
    /// order in which they were made.
    pub(crate) fn troubled(&self) -> Troubled {
        let made = self.registry.made.all();
        let first = |kinds: &[StateKind]| {
            let found = made.iter().find(|named| kinds.contains(&named.breaker.kind()));
            found.map(|named| Arc::clone(&named.name))
        };
        Troubled {
            open: first(&[StateKind::Open, StateKind::ForcedOpen, StateKind::Isolated]),
            half_open: first(&[StateKind::HalfOpen]),
        }
    }

    /// Every breaker that lives, in the order in which they were made.
    pub(crate) fn report(&self) -> Vec<BreakerReport> {
        let living = self.registry.made.all();
        living
            .iter()
            .map(|named| BreakerReport {
                name: Arc::clone(&named.name),
                event_type: named.event_type.clone(),
                stats: named.breaker.stats(),
            })
            .collect()
    }
}

impl fmt::Debug for NamedBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.name, self.breaker)
    }
}
