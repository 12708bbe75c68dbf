//! Connections to servers that answer, break and make no sense.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    sync::mpsc,
    time::timeout,
};

use super::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// What was pushed, as text.
type Pushed = mpsc::UnboundedReceiver<String>;

/// A connection, the server's end of it, and what is pushed.
fn pair(room: usize) -> (Connection, DuplexStream, Pushed) {
    let (here, there) = duplex(room);
    let (reader, writer) = tokio::io::split(here);
    let stream = Stream { reader: Box::new(reader), writer: Box::new(writer) };
    let (pushed, pushes) = mpsc::unbounded_channel();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let on_push: OnPush = Arc::new(move |push: Push<'_>| {
        let mut said = Vec::new();
        match push {
            Push::Messages(mut messages) => {
                while let Some((name, row, rest)) = messages.split() {
                    said.extend(row.payloads().map(|p| format!("{} {}", text(name), text(&p))));
                    messages = rest;
                }
            }
            Push::Left(name) => said.push(format!("left {name}")),
            Push::Ended(error) => said.push(format!("ended {error}")),
        }
        said.into_iter().for_each(|said| drop(pushed.send(said)));
    });
    (Connection::new(stream, Some(Duration::from_secs(5)), on_push), there, pushes)
}

fn message(name: &str, payload: &str) -> String {
    let (a, b) = (name.len(), payload.len());
    format!(">3\r\n$7\r\nmessage\r\n${a}\r\n{name}\r\n${b}\r\n{payload}\r\n")
}

async fn next(pushed: &mut Pushed) -> String {
    timeout(LONG, pushed.recv()).await.expect("nothing is pushed").unwrap()
}

/// Reads what was sent until the server has this much of it.
async fn sent(server: &mut DuplexStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    timeout(LONG, server.read_exact(&mut bytes)).await.expect("nothing is sent").unwrap();
    bytes
}

#[tokio::test]
async fn answers_belong_to_their_questions() {
    let (connection, mut server, mut pushed) = pair(1 << 16);
    let (one, two) = (redis::cmd("ONE"), redis::cmd("TWO"));
    let both = async { tokio::join!(connection.ask(&one), connection.ask(&two)) };
    let serve = async {
        assert_eq!(sent(&mut server, 26).await, b"*1\r\n$3\r\nONE\r\n*1\r\n$3\r\nTWO\r\n");
        let answers = [":1\r\n", &message("a", "x"), "$2\r\nok\r\n", &message("a", "y")].concat();
        // In pieces.
        for piece in answers.as_bytes().chunks(7) {
            server.write_all(piece).await.unwrap();
            server.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let ((first, second), ()) = tokio::join!(both, serve);
    assert_eq!(first.unwrap(), Value::Int(1));
    assert_eq!(second.unwrap(), Value::BulkString(b"ok".to_vec()));
    assert_eq!([next(&mut pushed).await, next(&mut pushed).await], ["a x", "a y"]);
}

#[tokio::test]
async fn what_the_system_does_not_take_at_once_is_written_later() {
    let (connection, mut server, _pushed) = pair(64);
    let long = "x".repeat(10_000);
    let command = redis::cmd("SET").arg("a").arg(&long).to_owned();
    let expected = command.get_packed_command();
    let serve = async {
        assert_eq!(sent(&mut server, expected.len()).await, expected);
        server.write_all(b"+OK\r\n").await.unwrap();
    };
    let (answer, ()) = tokio::join!(connection.ask(&command), serve);
    assert_eq!(answer.unwrap(), Value::Okay);
}

#[tokio::test]
async fn confirmations_are_told_from_news() {
    let (connection, mut server, mut pushed) = pair(1 << 16);
    let names = ["a".to_owned(), "b".to_owned()];
    let left = |name: &str| format!(">3\r\n$12\r\nsunsubscribe\r\n$1\r\n{name}\r\n:0\r\n");
    let serve = async {
        server.write_all(left("c").as_bytes()).await.unwrap();
        let began = sent(&mut server, 2 * 30).await;
        assert!(began.starts_with(b"*2\r\n$12\r\nSUNSUBSCRIBE\r\n$1\r\na\r\n"));
        // One that nobody asked for, in the middle of those that somebody did.
        let answers = [left("a"), left("d"), "-NOPERM no\r\n".to_owned()].concat();
        server.write_all(answers.as_bytes()).await.unwrap();
    };
    let (answers, ()) =
        tokio::join!(connection.subscribe(Subscription::SUnsubscribe, &names), serve);
    let answers = answers.unwrap();
    assert_eq!(answers[0], Value::Okay);
    assert!(matches!(&answers[1], Value::ServerError(error) if error.code() == "NOPERM"));
    assert_eq!([next(&mut pushed).await, next(&mut pushed).await], ["left c", "left d"]);
}

#[tokio::test]
async fn the_end_is_told_to_everybody() {
    for (bytes, why) in [
        (&b""[..], "the connection broke: closed by the other side"),
        (b"hello", "unexpected answer: no answer begins with byte 104"),
        (b":1\r\n:2\r\n:3\r\n", "unexpected answer: an answer to no question"),
    ] {
        let (connection, mut server, mut pushed) = pair(1 << 16);
        let mut request = Request::of(&redis::cmd("ONE"));
        request.command(&redis::cmd("TWO"));
        let mut answers = connection.send(&request, None);
        server.write_all(bytes).await.unwrap();
        drop(server);
        assert_eq!(answers.all().await.is_ok(), bytes.starts_with(b":"));
        assert_eq!(next(&mut pushed).await, format!("ended {why}"));
        let error = connection.ask_all(request).await.unwrap_err();
        assert_eq!(error.to_string(), why);
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_an_error_and_comes_too_late() {
    let (connection, mut server, _pushed) = pair(1 << 16);
    let patience = Duration::from_secs(5);
    let none = connection.ask(&redis::cmd("ONE")).await;
    assert_eq!(none, Err(ConnectionError::TimedOut(patience)));
    server.write_all(b":1\r\n:2\r\n").await.unwrap();
    assert_eq!(connection.ask(&redis::cmd("TWO")).await, Ok(Value::Int(2)));
}

#[tokio::test]
async fn it_ends_with_its_last_clone() {
    let (connection, mut server, _pushed) = pair(1 << 16);
    let answers = connection.clone().send(&Request::of(&redis::cmd("ONE")), None);
    drop(connection);
    sent(&mut server, 13).await;
    drop(answers);
    assert_eq!(timeout(LONG, server.read(&mut [0; 9])).await.unwrap().unwrap(), 0);
}
