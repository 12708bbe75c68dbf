//! A server that comes back without what it had confirmed, as a replica does
//! that becomes master too early.

use super::*;

/// A world with a second publisher, and a server that will forget all that
/// happens from here on.
async fn about_to_forget() -> (World, Publisher) {
    let world = World::new(Server::start().unwrap()).await;
    let other = world.another_publisher().await;
    world.flushed(0..100).await;
    world.server.run(["SAVE"]).unwrap();
    (world, other)
}

fn forget(world: &World) {
    world.server.kill9();
    world.server.restart().unwrap();
}

#[tokio::test]
async fn a_publisher_goes_on_behind_what_was_lost() {
    let (world, _other) = about_to_forget().await;
    let mut inbox = world.inbox(SubscribeOptions::new().from_beginning()).await;
    world.flushed(100..200).await;
    expect(&mut inbox, 0..200).await;
    forget(&world);
    world.flushed(200..210).await;
    let mut late = world.inbox(SubscribeOptions::new().from_beginning()).await;
    expect(&mut late, 0..100).await;
    let gap = gap(&mut late).await;
    assert_eq!((gap.missed, gap.reason), (Some(100), GapReason::Lost));
    expect(&mut late, 200..210).await;
    // The one that had seen all misses nothing.
    expect(&mut inbox, 200..210).await;
}

#[tokio::test]
async fn offsets_that_are_given_twice_hide_nothing() {
    let (world, other) = about_to_forget().await;
    let mut inbox = world.inbox(SubscribeOptions::new()).await;
    world.flushed(100..200).await;
    expect(&mut inbox, 100..200).await;
    forget(&world);
    // It had nothing confirmed and takes up where the server is: offset 101.
    let mut events: Vec<_> = (1_000..1_050).map(|n: u32| Event::of("n", n.to_string())).collect();
    other.publish_batch(&world.channel, &mut events).await.unwrap();
    other.flush().await.unwrap();
    expect(&mut inbox, 1_000..1_050).await;
    // The other goes on, too. What it lost was delivered before.
    world.flushed(200..210).await;
    expect(&mut inbox, 200..210).await;
}

#[tokio::test]
async fn offsets_that_were_lost_and_given_to_others_are_missed_all_the_same() {
    let (world, other) = about_to_forget().await;
    let mut inbox = world.inbox(SubscribeOptions::new().from_beginning()).await;
    expect(&mut inbox, 0..99).await;
    let Incoming::Event(last) = next(&mut inbox).await else { panic!("an event") };
    drop(inbox);
    world.flushed(100..200).await;
    forget(&world);
    // As many as were lost, so that nothing shows by the offsets.
    let mut events: Vec<_> = (1_000..1_100).map(|n: u32| Event::of("n", n.to_string())).collect();
    other.publish_batch(&world.channel, &mut events).await.unwrap();
    other.flush().await.unwrap();
    world.flushed(200..210).await;
    let after = SubscribeOptions::new().after(last.position().unwrap());
    let mut inbox = world.inbox(after).await;
    expect(&mut inbox, 1_000..1_100).await;
    assert_eq!(gap(&mut inbox).await.missed, Some(100));
    expect(&mut inbox, 200..210).await;
}

#[tokio::test]
async fn a_saved_position_knows_that_others_took_its_offsets() {
    let (world, other) = about_to_forget().await;
    let mut inbox = world.inbox(SubscribeOptions::new()).await;
    world.flushed(100..150).await;
    expect(&mut inbox, 100..149).await;
    let Incoming::Event(last) = next(&mut inbox).await else { panic!("an event") };
    world.flushed(150..200).await;
    drop(inbox);
    forget(&world);
    // As many as were lost, so that nothing shows by the offsets.
    let mut events: Vec<_> = (1_000..1_100).map(|n: u32| Event::of("n", n.to_string())).collect();
    other.publish_batch(&world.channel, &mut events).await.unwrap();
    other.flush().await.unwrap();
    world.flushed(200..210).await;
    let saved: swarmbus::transport::Position =
        last.position().unwrap().to_string().parse().unwrap();
    let mut inbox = world.inbox(SubscribeOptions::new().after(saved)).await;
    expect(&mut inbox, 1_000..1_100).await;
    let gap = gap(&mut inbox).await;
    assert_eq!((gap.missed, gap.reason), (Some(50), GapReason::Lost));
    expect(&mut inbox, 200..210).await;
}

#[tokio::test]
async fn two_publishers_that_lost_events_are_counted_once() {
    let (world, other) = about_to_forget().await;
    let mut inbox = world.inbox(SubscribeOptions::new()).await;
    world.flushed(100..150).await;
    let mut more: Vec<_> = (1_000..1_020).map(|n: u32| Event::of("n", n.to_string())).collect();
    other.publish_batch(&world.channel, &mut more).await.unwrap();
    other.flush().await.unwrap();
    expect(&mut inbox, 100..150).await;
    expect(&mut inbox, 1_000..1_020).await;
    forget(&world);
    world.flushed(200..205).await;
    let mut more: Vec<_> = (2_000..2_005).map(|n: u32| Event::of("n", n.to_string())).collect();
    other.publish_batch(&world.channel, &mut more).await.unwrap();
    other.flush().await.unwrap();
    // It had them.
    expect(&mut inbox, 200..205).await;
    expect(&mut inbox, 2_000..2_005).await;
    let mut late = world.inbox(SubscribeOptions::new().from_beginning()).await;
    expect(&mut late, 0..100).await;
    assert_eq!(gap(&mut late).await.missed, Some(50));
    expect(&mut late, 200..205).await;
    assert_eq!(gap(&mut late).await.missed, Some(20));
    expect(&mut late, 2_000..2_005).await;
}
