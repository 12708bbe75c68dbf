//! A cached route against asking the table again.
//!
//! The swarm: 50 services, 20 entities and 10 actions make 10,000 types
//! `svc7.entity3.created`; every fourth has a region for a fourth token
//! (`svc7.entity3.created.eu`). 1,000 wildcard subscriptions: 400
//! `svc7.*.created` (a service's action on anything), 300 `svc7.>` (all of a
//! service), 300 `*.entity3.*` (all of an entity). About 18 of them match a
//! type. An extra case adds 20 regexes.
//!
//! Both sides look up the same types in the same random order. Ours asks the
//! route cache. The rival does what the bus does on a miss: asks the table,
//! collects the subscribers and sorts them by their priority. What is found
//! is counted and must be the same.

use std::{cell::RefCell, cmp::Reverse, hint::black_box, rc::Rc, sync::Arc, time::Duration};

use swarmbus_core::{
    EventType,
    router::{Pattern, RouteCache, Router},
};

use super::random_order;
use crate::harness::{Case, timed};

const SERVICES: usize = 50;
const ENTITIES: usize = 20;
const ACTIONS: [&str; 10] = [
    "created", "updated", "deleted", "assigned", "started", "finished", "failed", "retried",
    "viewed", "archived",
];
const REGIONS: [&str; 3] = ["eu", "us", "ap"];
const SUBSCRIPTIONS: usize = 1_000;
/// A power of two, so that the loop wraps around with a mask.
const ORDER: usize = 1 << 16;

/// What is compared with rivals.
pub fn cases() -> Vec<Case> {
    let rival = "uncached match";
    let all = Swarm::new(10_000, 0);
    let regexes = Swarm::new(10_000, 20);
    let hundred = Swarm::new(100, 0);
    let one = Swarm::new(1, 0);
    vec![
        Case::nanoseconds("cached route, 10,000 types", all.cached()).against(
            rival,
            50.0,
            all.uncached(),
        ),
        Case::nanoseconds("cached route by bytes, 10,000 types", all.by_bytes()).against(
            rival,
            None,
            all.uncached(),
        ),
        Case::nanoseconds("cached route, 10,000 types and 20 regexes", regexes.cached()).against(
            rival,
            None,
            regexes.uncached(),
        ),
        Case::nanoseconds("cached route, 100 types", hundred.cached()).against(
            rival,
            None,
            hundred.uncached(),
        ),
        Case::nanoseconds("cached route, 1 type", one.cached()).against(
            rival,
            None,
            one.uncached(),
        ),
    ]
}

/// What the bus knows of a handler when it sorts.
struct Subscriber {
    priority: i32,
    serial: usize,
}

type Found = Vec<Arc<Subscriber>>;

/// The table, and the types that are looked up in it.
struct Swarm(Rc<Inner>);

struct Inner {
    router: Router<Arc<Subscriber>>,
    types: Vec<EventType>,
    order: Vec<u32>,
    /// How many subscribers each type has.
    matches: Vec<usize>,
    cache: RefCell<RouteCache<Found>>,
}

impl Swarm {
    fn new(types: usize, regexes: usize) -> Self {
        let mut router = Router::new();
        let wildcards = (0..SUBSCRIPTIONS).map(|n| Pattern::parse(&wildcard(n)));
        let regexes = (0..regexes)
            .map(|n| Pattern::regex(&format!(r"svc{n}\d\.entity\d+\.(failed|retried)")));
        for (serial, pattern) in wildcards.chain(regexes).enumerate() {
            let priority = i32::from(serial % 10 == 0);
            router.insert(&pattern.expect("a pattern"), Arc::new(Subscriber { priority, serial }));
        }
        // Spread over the swarm also when there are few.
        let types: Vec<_> = (0..types).map(|n| event_type(n * 7_919)).collect();
        let mut cache = RouteCache::new(RouteCache::<()>::DEFAULT_CAPACITY);
        for ty in &types {
            cache.get_or_insert_with(router.generation(), ty, || ask(&router, ty));
        }
        assert_eq!(cache.len(), types.len(), "all types differ and are cached");
        let matches: Vec<_> = types.iter().map(|ty| ask(&router, ty).len()).collect();
        let order = random_order(ORDER, types.len());
        Self(Rc::new(Inner { router, types, order, matches, cache: RefCell::new(cache) }))
    }

    fn cached(&self) -> impl FnMut(u64) -> Duration + use<> {
        let swarm = Rc::clone(&self.0);
        move |n| {
            let mut cache = swarm.cache.borrow_mut();
            let generation = swarm.router.generation();
            swarm.look_up(n, |ty| {
                cache.get_or_insert_with(generation, ty, || unreachable!("cached")).len()
            })
        }
    }

    fn by_bytes(&self) -> impl FnMut(u64) -> Duration + use<> {
        let swarm = Rc::clone(&self.0);
        move |n| {
            let mut cache = swarm.cache.borrow_mut();
            let generation = swarm.router.generation();
            swarm.look_up(n, |ty| {
                let bytes = ty.as_str().as_bytes();
                cache.get_by_bytes(generation, bytes).expect("cached").len()
            })
        }
    }

    fn uncached(&self) -> impl FnMut(u64) -> Duration + use<> {
        let swarm = Rc::clone(&self.0);
        move |n| swarm.look_up(n, |ty| black_box(ask(&swarm.router, ty)).len())
    }
}

impl Inner {
    /// `route` says how many subscribers it found.
    #[inline]
    fn look_up(&self, n: u64, mut route: impl FnMut(&EventType) -> usize) -> Duration {
        let (mut i, mut found) = (0, 0);
        let took = timed(n, || {
            let ty = &self.types[self.order[i % ORDER] as usize];
            found += route(black_box(ty));
            i += 1;
        });
        let once: usize = self.order.iter().map(|ty| self.matches[*ty as usize]).sum();
        let rest = self.order.iter().take(i % ORDER).map(|ty| self.matches[*ty as usize]);
        assert_eq!(found, once * (i / ORDER) + rest.sum::<usize>(), "a wrong route");
        took
    }
}

/// What the bus does on a miss.
fn ask(router: &Router<Arc<Subscriber>>, ty: &EventType) -> Found {
    let mut found = Vec::new();
    router.for_each_match(ty.as_str(), |subscriber| found.push(Arc::clone(subscriber)));
    found.sort_by_key(|subscriber| (Reverse(subscriber.priority), subscriber.serial));
    found
}

/// Number `n`, modulo 10,000, of the types.
fn event_type(n: usize) -> EventType {
    let n = n % (SERVICES * ENTITIES * ACTIONS.len());
    let (service, n) = (n % SERVICES, n / SERVICES);
    let (entity, action) = (n % ENTITIES, ACTIONS[n / ENTITIES]);
    let region = match (service + entity) % 4 {
        0 => format!(".{}", REGIONS[entity % REGIONS.len()]),
        _ => String::new(),
    };
    EventType::new(format!("svc{service}.entity{entity}.{action}{region}")).expect("a type")
}

fn wildcard(n: usize) -> String {
    let kind = n / (SUBSCRIPTIONS / 10);
    match kind {
        0..4 => format!("svc{}.*.{}", n % SERVICES, ACTIONS[n / SERVICES % ACTIONS.len()]),
        4..7 => format!("svc{}.>", n % SERVICES),
        _ => format!("*.entity{}.*", n % ENTITIES),
    }
}
