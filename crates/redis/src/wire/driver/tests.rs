//! Hostile servers by the hundred thousand, the same ones in every run.
//!
//! Runs until 500,000 inputs or 8 seconds are over, whichever is first. For more:
//! `SWARMBUS_FUZZ_INPUTS=10000000 cargo test --release -p swarmbus-redis --lib
//! no_server_breaks`, which has no limit of time.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::{READ, check::check};

/// What servers say, of every kind.
const SAID: [&[u8]; 16] = [
    b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n",
    b">3\r\n$8\r\nsmessage\r\n$3\r\na:b\r\n$0\r\n\r\n",
    b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\n\r\n\r\n",
    b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
    b">3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n",
    b">3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n",
    b"+OK\r\n-NOPERM no\r\n:17\r\n:-1\r\n",
    b"$5\r\nhello\r\n$-1\r\n*-1\r\n_\r\n",
    b"*3\r\n$1\r\na\r\n*2\r\n:1\r\n:2\r\n$-1\r\n",
    b"%2\r\n+mode\r\n$10\r\nstandalone\r\n+role\r\n+master\r\n",
    b"~2\r\n#t\r\n#f\r\n,3.25\r\n,nan\r\n,inf\r\n(123456789012345678901234567890\r\n",
    b"=15\r\ntxt:Some string\r\n!9\r\nERR wrong\r\n",
    b"|1\r\n+ttl\r\n:3600\r\n$5\r\nhello\r\n",
    b">2\r\n+invalidate\r\n*1\r\n$1\r\na\r\n",
    b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
    b"*0\r\n%0\r\n~0\r\n$0\r\n\r\n*2\r\n*0\r\n*-1\r\n",
];

/// Lengths that nobody has, or that are just about possible.
const LENGTHS: [&[u8]; 12] = [
    b"-1",
    b"-2",
    b"0",
    b"1",
    b"3",
    b"65536",
    b"178956970",
    b"536870911",
    b"536870912",
    b"18446744073709551616",
    b"",
    b"+1",
];

/// Bytes that mean something.
const MEANT: &[u8] = b"+-:_,#($=!*~>%|\r\n0123456789";

#[test]
fn no_server_breaks_a_connection() {
    let (inputs, time) = match std::env::var("SWARMBUS_FUZZ_INPUTS") {
        Ok(wanted) => (wanted.parse().expect("a number of inputs"), Duration::MAX),
        Err(_) => (500_000_u64, Duration::from_secs(8)),
    };
    let (start, mut rng) = (Instant::now(), Rng::with_seed(1));
    let (mut tried, mut understood) = (0, 0);
    while tried < inputs && (tried % 64 != 0 || start.elapsed() < time) {
        let mut input = Vec::new();
        for _ in 0..rng.usize(1..6) {
            input.extend_from_slice(SAID[rng.usize(..SAID.len())]);
        }
        for _ in 0..rng.usize(0..4) {
            change(&mut rng, &mut input);
        }
        input.truncate(8_192);
        let longest = [1, 3, 20, 200][rng.usize(..4)];
        understood += u64::from(check(&input, || rng.usize(1..=longest)) > 0);
        tried += 1;
    }
    // Else the mutations are so coarse that nothing behind the first is met.
    assert!(understood > tried / 2, "{understood} of {tried}");
    println!("{tried} inputs, {understood} of them partly understood");
}

fn change(rng: &mut Rng, input: &mut Vec<u8>) {
    let at = rng.usize(0..=input.len());
    let meant = MEANT[rng.usize(..MEANT.len())];
    match rng.u8(0..7) {
        0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.u8(0..8)),
        1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = meant),
        2 => input.truncate(at),
        3 => input.insert(at, meant),
        // Another length, where there is one.
        4 => {
            let Some(skip) = input[at..].iter().position(u8::is_ascii_digit) else { return };
            let digits = input[at + skip..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let length = LENGTHS[rng.usize(..LENGTHS.len())];
            input.splice(at + skip..at + skip + digits, length.iter().copied());
        }
        // Deeper than anybody takes apart.
        5 => {
            let nest: &[u8] = if rng.bool() { b"*1\r\n" } else { b"%1\r\n+a\r\n" };
            input.splice(at..at, nest.repeat(rng.usize(1..300)));
        }
        _ => {
            let piece: Vec<u8> = input.iter().skip(at).take(rng.usize(0..64)).copied().collect();
            let to = rng.usize(0..=input.len());
            input.splice(to..to, piece);
        }
    }
}

#[test]
fn what_is_announced_takes_no_memory() {
    for kind in "$=!*~>%|".bytes() {
        for length in LENGTHS {
            check(&[&[kind], length, b"\r\nab"].concat(), || 1);
        }
    }
}

#[test]
fn much_comes_whole_and_in_pieces() {
    let text = |len: usize| [format!("${len}\r\n").as_bytes(), &b"x".repeat(len), b"\r\n"].concat();
    let message = |len| [b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n", &text(len)[..]].concat();
    let input = [message(10), message(300_000), text(200_000), message(70_000)].concat();
    for piece in [1_000, READ - 1, READ, READ + 1, 150_000] {
        assert_eq!(check(&input, || piece), 4);
    }
}

#[test]
fn what_follows_a_push_is_no_part_of_it() {
    // No name, and then what would be one.
    for empty in [">0\r\n", ">1\r\n$12\r\nsunsubscribe\r\n"] {
        let input = format!("{empty}$12\r\nsunsubscribe\r\n$1\r\nc\r\n");
        assert_eq!(check(input.as_bytes(), || 1), 2);
    }
}
