//! Scripts on a real server.

use std::sync::Arc;

use super::*;
use crate::{
    connection::Link, duties::Commands, local::Server, settings::Settings, wire::Connection,
};

/// A server and a connection for scripts.
pub(crate) struct Desk {
    /// Ends with this.
    _server: Server,
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) connection: Connection,
}

impl Desk {
    pub(crate) async fn new(server: Server) -> Self {
        let dialer = Dialer::new(Settings::new(&server.url()).unwrap()).unwrap();
        let dialer = Arc::new(dialer);
        let link = Link::connect(Arc::clone(&dialer), Arc::new(Commands("test"))).await.unwrap();
        let (_, connection) = link.ready(std::time::Duration::from_secs(5)).await.unwrap();
        Self { _server: server, dialer, connection }
    }

    pub(crate) async fn run(
        &mut self,
        script: &Script,
        call: &Cmd,
    ) -> Result<Value, ConnectionError> {
        script.run(&self.dialer, &self.connection, call).await
    }

    /// A command as one would type it.
    pub(crate) async fn ask(&mut self, line: &str) -> Value {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        self.dialer.ask(&self.connection, &command).await.unwrap()
    }
}

static ECHO: Script = Script::new("#!lua\nreturn {1, ARGV[1], {}}");

#[tokio::test]
async fn a_script_that_the_server_does_not_know_is_sent() {
    let mut desk = Desk::new(Server::start().unwrap()).await;
    let mut call = ECHO.call(&[]);
    call.arg("a");
    for _ in 0..2 {
        let mut answer = Answer::new(desk.run(&ECHO, &call).await.unwrap()).unwrap();
        assert_eq!((answer.count(), answer.text()), (Ok(1), Ok("a".to_owned())));
        assert!(answer.array().unwrap().is_empty() && answer.is_empty());
        desk.ask("SCRIPT FLUSH").await;
    }
}

#[tokio::test]
async fn an_answer_of_another_kind_is_an_error() {
    let mut desk = Desk::new(Server::start().unwrap()).await;
    let value = desk.run(&ECHO, ECHO.call(&[]).arg("a")).await.unwrap();
    let mut answer = Answer::new(value).unwrap();
    assert!(matches!(answer.bytes(), Err(ConnectionError::Protocol(_))));
    assert!(matches!(answer.int(), Err(ConnectionError::Protocol(_))));
    assert!(answer.array().is_ok());
    assert!(matches!(answer.value(), Err(ConnectionError::Protocol(_))), "the end");
}
