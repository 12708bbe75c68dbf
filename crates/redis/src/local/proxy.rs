//! [`Proxy`]: a network between a client and a server that breaks on demand.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until},
};

/// Chunks that are under way in one direction while it is delayed or held.
const UNDER_WAY: usize = 64;
const CHUNK: usize = 64 << 10;

/// Passes TCP connections on to a server, and breaks them when told to.
///
/// ```
/// use swarmbus_redis::local::{Proxy, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::start()?;
/// let proxy = Proxy::start(server.address()).await?;
/// println!("connect to {}", server.url_at(proxy.address()));
/// proxy.cut();                // connections end, new ones are taken
/// proxy.refuse();             // connections end, and new ones too
/// proxy.pass();
/// proxy.swallow();            // connections live, but nothing arrives any more
/// # Ok(())
/// # }
/// ```
///
/// Dropped, it ends all connections and listens no more. It belongs to the
/// tokio runtime that it was started on.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: AbortHandle,
}

/// What becomes of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// They are passed on.
    Open,
    /// They are passed on this much later, in both directions.
    Slow(Duration),
    /// They wait in the network, as when packets are lost, and are passed on
    /// when the way is open again.
    Held,
    /// They are thrown away. A connection that lost some is dead for ever,
    /// and nobody is told, as when a firewall has forgotten it.
    Swallowed,
    /// Connections are ended as soon as they are made.
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct State {
    way: Way,
    /// Connections made under a lower number are over.
    generation: u64,
    /// Since the start.
    accepted: u64,
    open: u64,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state =
            watch::Sender::new(State { way: Way::Open, generation: 0, accepted: 0, open: 0 });
        let accepting = tokio::spawn(accept(listener, server, state.clone())).abort_handle();
        Ok(Self { address, state, accepting })
    }

    /// What to connect to instead of the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections; new ones are treated as before.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Ends all connections, and new ones too until told otherwise.
    pub fn refuse(&self) {
        self.state.send_modify(|state| {
            state.way = Way::Refused;
            state.generation += 1;
        });
    }

    /// Lets everything pass again; what was swallowed stays lost.
    pub fn pass(&self) {
        self.set(Way::Open);
    }

    /// Half-open connections: see [`Way::Swallowed`].
    pub fn swallow(&self) {
        self.set(Way::Swallowed);
    }

    /// Any of the [ways](Way); living connections stay.
    pub fn set(&self, way: Way) {
        self.state.send_modify(|state| state.way = way);
    }

    /// Refuses and passes in turn, this many times, and passes in the end.
    /// Dropped in the middle, it leaves the proxy as it is just then.
    pub async fn flap(&self, times: u32, down: Duration, up: Duration) {
        for _ in 0..times {
            self.refuse();
            sleep(down).await;
            self.pass();
            sleep(up).await;
        }
    }

    /// Connections that are open now.
    pub fn connections(&self) -> u64 {
        self.state.borrow().open
    }

    /// Connections since the start, refused ones included.
    pub fn accepted(&self) -> u64 {
        self.state.borrow().accepted
    }

    /// Waits until so many connections have been made since the start.
    ///
    /// Cancel safe.
    pub async fn wait_for_accepted(&self, connections: u64) {
        let mut states = self.state.subscribe();
        // The sender is ours, so this cannot end early.
        let _ = states.wait_for(|state| state.accepted >= connections).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, state: watch::Sender<State>) {
    // Dropped with this task, it ends all of them.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            taken = listener.accept() => {
                let Ok((client, _)) = taken else { continue };
                state.send_modify(|state| state.accepted += 1);
                if state.borrow().way == Way::Refused {
                    continue;
                }
                connections.spawn(connection(client, server, state.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts an open connection for as long as it lives.
struct Counted(watch::Sender<State>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.open -= 1);
    }
}

async fn connection(client: TcpStream, server: SocketAddr, state: watch::Sender<State>) {
    let mut states = state.subscribe();
    let generation = states.borrow().generation;
    state.send_modify(|state| state.open += 1);
    let _counted = Counted(state.clone());
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = carry(from_client, to_server, state.subscribe()) => {}
        () = carry(from_server, to_client, state.subscribe()) => {}
        _ = states.wait_for(|state| state.generation > generation) => {}
    }
}

/// One direction, until either side ends it.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    states: watch::Receiver<State>,
) {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let mut delays = states.clone();
    let read = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            if !matches!(from.read_buf(&mut chunk).await, Ok(read) if read > 0) {
                return;
            }
            let delay = match delays.borrow_and_update().way {
                Way::Slow(delay) => delay,
                Way::Open | Way::Held | Way::Swallowed | Way::Refused => Duration::ZERO,
            };
            if sender.send((Instant::now() + delay, chunk)).await.is_err() {
                return;
            }
        }
    };
    let mut ways = states;
    let write = async move {
        let mut dead = false;
        while let Some((due, chunk)) = chunks.recv().await {
            sleep_until(due).await;
            let Ok(state) = ways.wait_for(|state| state.way != Way::Held).await.map(|s| *s) else {
                return;
            };
            dead |= state.way == Way::Swallowed;
            if !dead && to.write_all(&chunk).await.is_err() {
                return;
            }
        }
    };
    // The writer goes on with what was read before the end.
    tokio::join!(read, write);
}
