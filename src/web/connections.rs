//! Connections: they are accepted at once, limited in number, and closed when they are idle.
//!
//! A client that sends nothing, or does not read its answer, must not keep others from theirs. At the limit, the
//! connection that has been idle for the longest time is closed for a new one.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Sleep};

use super::Body;

/// The greatest number of connections.
const CONNECTIONS_MAX: usize = 64;
/// The greatest number of connections that wait to be accepted, which takes a moment.
const BACKLOG: u32 = 1_024;
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may read nothing while there is data for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The bytes of an unread answer that the system holds. With the default of the system, an unread stream would take
/// hours to be noticed.
const SEND_BUFFER: u32 = 64 * 1024;
/// The wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens at an address.
///
/// # Errors
/// The system's error, for example that the address is in use.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?; // connections inherit it
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// An open connection.
struct Open {
    /// The time of the last data on it, in milliseconds since the listener began.
    moved_at: Arc<AtomicU64>,
    task: AbortHandle,
}

/// Answers every request with `answer`, forever.
pub(super) async fn serve<F, A>(listener: TcpListener, answer: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let began = Instant::now();
    let mut tasks = JoinSet::new(); // they end with this one
    let mut open: Vec<Open> = Vec::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                while tasks.try_join_next().is_some() {}
                open.retain(|open| !open.task.is_finished());
                make_room(&mut open);
                let stream = Watched::new(stream, began);
                let moved_at = Arc::clone(&stream.moved_at);
                let task = tasks.spawn(attend(stream, answer.clone()));
                open.push(Open { moved_at, task });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to the page could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Closes the connection that has been idle for the longest time, if the limit is reached.
fn make_room(open: &mut Vec<Open>) {
    if open.len() < CONNECTIONS_MAX {
        return;
    }
    let stillest = (0..open.len()).min_by_key(|index| open.get(*index).map(|o| o.moved_at.load(Ordering::Relaxed)));
    if let Some(stillest) = stillest {
        open.swap_remove(stillest).task.abort();
    }
}

async fn attend<F, A>(stream: Watched, answer: F)
where
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Response<Body>>,
{
    let answer = service_fn(move |request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the page has ended");
    }
}

/// A stream that records when it last transferred data, and fails if its client has not read for too long.
struct Watched {
    stream: TcpStream,
    began: Instant,
    moved_at: Arc<AtomicU64>,
    /// The time until which the client has to read.
    unread: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    fn new(stream: TcpStream, began: Instant) -> Self {
        let watched = Self { stream, began, moved_at: Arc::default(), unread: None };
        watched.moved();
        watched
    }

    fn moved(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_at.store(millis, Ordering::Relaxed);
    }

    /// Notes the result of a write.
    fn written(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.unread = None;
            self.moved();
            return written;
        }
        let unread = self.unread.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
        ready!(unread.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.moved();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const BIG: usize = 4 << 20;

    async fn site() -> SocketAddr {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, async |request: Request<Incoming>| {
            let length = if request.uri().path() == "/big" { BIG } else { 2 };
            Response::new(Full::new(vec![b'x'; length].into()).boxed_unsync())
        }));
        address
    }

    async fn ask(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }

    async fn answers(address: SocketAddr) {
        let mut stream = ask(address, "/").await;
        let mut answer = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read_exact(&mut answer)).await;
        assert_eq!((read.unwrap().unwrap(), &answer), (12, b"HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn clients_that_are_still_hold_up_nobody() {
        let address = site().await;
        let mut held = Vec::new();
        for index in 0..3 * CONNECTIONS_MAX {
            held.push(match index % 3 {
                0 => TcpStream::connect(address).await.unwrap(), // sends nothing
                1 => ask(address, "/big").await,                 // reads nothing
                _ => ask(address, "/").await,                    // has its answer, and stays
            });
        }
        answers(address).await;
        // A client that reads slowly gets all of its answer while other connections come and go.
        let mut slow = ask(address, "/big").await;
        let (mut read, mut part) = (0, vec![0; BIG / 64]);
        while read < BIG {
            let got = slow.read(&mut part).await.unwrap();
            assert!(got > 0, "cut off after {read}");
            read += got;
            answers(address).await;
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut_off() {
        let address = site().await;
        let mut deaf = ask(address, "/big").await;
        tokio::time::sleep(WRITE_TIMEOUT + Duration::from_secs(1)).await;
        let mut all = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), deaf.read_to_end(&mut all)).await.unwrap();
        assert!(all.len() < BIG, "{}", all.len());
    }
}
