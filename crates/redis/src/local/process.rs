//! The process of a private server, and the shell that lets it outlive nobody.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::StartError;

/// Lines of the log that are kept.
const LOG: usize = 200;

/// Passes signals on that come by name over the pipe, and kills the server
/// when the pipe ends: by a drop, or because the process at its other end was
/// killed. Signals to the shell itself must not end it before the server.
const KEEPER: &str = r#"
trap '' HUP INT TERM
"$@" </dev/null &
server=$!
exec >/dev/null 2>&1
while read -r signal; do kill -s "$signal" "$server"; done
kill -s KILL "$server"
wait "$server"
"#;

/// Where the programs are.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) server: PathBuf,
    pub(super) client: PathBuf,
}

impl Programs {
    pub(super) fn find() -> Option<Self> {
        let client = || which::which("redis-cli").or_else(|_| which::which("valkey-cli")).ok();
        let server = match std::env::var_os("SWARMBUS_REDIS_SERVER") {
            Some(path) => path.into(),
            None => which::which("redis-server").or_else(|_| which::which("valkey-server")).ok()?,
        };
        Some(Self { server, client: client()? })
    }
}

/// A running server; dropped, it is killed.
pub(super) struct Process {
    keeper: Child,
    orders: Mutex<Option<ChildStdin>>,
    log: Arc<Mutex<VecDeque<String>>>,
    news: Mutex<mpsc::Receiver<Ready>>,
    reader: Option<thread::JoinHandle<()>>,
}

/// The server's log says that it takes connections. The channel ends with the
/// server.
struct Ready;

impl Process {
    pub(super) fn start(
        program: &Path,
        configuration: &Path,
        sentinel: bool,
    ) -> Result<Self, StartError> {
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "sh"]).arg(program).arg(configuration);
        if sentinel {
            command.arg("--sentinel");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Ctrl-C is for the program, which may still need its server.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut keeper = command.spawn()?;
        let orders = Mutex::new(keeper.stdin.take());
        let log = Arc::<Mutex<VecDeque<String>>>::default();
        let (ready, news) = mpsc::channel();
        let reader = keeper.stdout.take().map(|output| {
            let log = Arc::clone(&log);
            thread::spawn(move || read_log(output, &log, &ready))
        });
        Ok(Self { keeper, orders, log, news: Mutex::new(news), reader })
    }

    pub(super) fn wait_until_ready(
        &self,
        address: SocketAddr,
        limit: Duration,
    ) -> Result<(), StartError> {
        let deadline = Instant::now() + limit;
        match self.news.lock().recv_timeout(limit) {
            Ok(Ready) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => {
                return Err(StartError::TimedOut { log: self.log() });
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(StartError::Ended { log: self.log() });
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        ping(address, left.max(Duration::from_millis(1)))
            .map_err(|error| StartError::TimedOut { log: format!("{error}; {}", self.log()) })
    }

    /// By the name that `kill -s` knows. A server that is gone gets none.
    pub(super) fn signal(&self, name: &str) {
        if let Some(orders) = &mut *self.orders.lock() {
            let _ = writeln!(orders, "{name}");
        }
    }

    /// Waits until it has ended by itself, at most for so long.
    pub(super) fn wait_for_end(&self, limit: Duration) {
        let news = self.news.lock();
        let deadline = Instant::now() + limit;
        while news.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
    }

    pub(super) fn is_running(&self) -> bool {
        !matches!(self.news.lock().try_recv(), Err(mpsc::TryRecvError::Disconnected))
    }

    pub(super) fn log(&self) -> String {
        self.log.lock().iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.orders.get_mut().take());
        let _ = self.keeper.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read_log(output: ChildStdout, log: &Mutex<VecDeque<String>>, ready: &mpsc::Sender<Ready>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    // By bytes: a log may hold what is no text.
    while matches!(output.read_until(b'\n', &mut line), Ok(read) if read > 0) {
        let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        let is_ready =
            text.contains("Ready to accept connections") || text.contains("Sentinel ID is");
        let mut log = log.lock();
        if log.len() == LOG {
            log.pop_front();
        }
        log.push_back(text);
        drop(log);
        if is_ready {
            let _ = ready.send(Ready);
        }
        line.clear();
    }
}

/// Any answer will do: one that asks for a password shows that it is there.
fn ping(address: SocketAddr, limit: Duration) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"PING\r\n")?;
    stream.read_exact(&mut [0; 1])
}
