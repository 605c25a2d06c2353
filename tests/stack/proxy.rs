//! A proxy between a run and its broker that speaks Kafka: at chosen points it delays, loses, repeats and holds back
//! requests, delays and loses answers, and cuts connections. Everything goes through it, since it puts its own address in the broker's place
//! in the answers that name the broker.
//!
//! - this file: connections, and what is done to them
//! - `wire`: frames, heads of requests, error codes and addresses in answers
//! - `point`: where something is done, what, and what came of it
//!
//! The worst it can do, as TCP and a middle box can: hold a request back, cut the client's connection, and let the
//! request go to the broker during the next transaction, on the connection that the broker still has.

pub mod point;
pub mod wire;

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use self::point::{Act, Outcome, Point, Progress, Step};
use self::wire::Head;
use crate::harness::Stack;

/// How long the broker may take to answer a request that comes late.
const LATE_ANSWER: Duration = Duration::from_secs(3);

/// A listener on the loopback in front of the stack's broker. Its threads end with the test's process.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    own_port: u16,
    point: Mutex<Option<Progress<Held>>>,
    changed: Condvar,
    /// While this is set, connections are closed as soon as they are accepted.
    is_down: AtomicBool,
    next_link: AtomicU64,
    links: Mutex<HashMap<u64, Arc<Link>>>,
}

/// A connection of a client, and the one to the broker.
struct Link {
    client: TcpStream,
    server: TcpStream,
    /// Requests that the broker has and has not answered: it answers in order.
    pending: Mutex<VecDeque<Waiting>>,
    /// The client's side is over, and the broker's goes on.
    is_held: AtomicBool,
}

struct Waiting {
    head: Head,
    fate: Fate,
}

/// The fate of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    PassOn,
    /// After so long.
    PassOnAfter(Duration),
    /// The client is gone.
    Drop,
    /// The same, and the broker's connection is closed after it.
    DropAndClose,
    /// The answer to a request that was held back.
    Late,
}

/// A request that is held back.
pub struct Held {
    frame: Vec<u8>,
    head: Head,
    link: Arc<Link>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { own_port: address.port(), ..Shared::default() });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if serving.is_down.load(Ordering::SeqCst) {
                    continue; // dropped, and so closed
                }
                let Ok(server) = TcpStream::connect(&Stack::get().bootstrap) else { continue };
                serving.join(client, server);
            }
        });
        Self { address, shared }
    }

    /// Where the run finds the broker.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// From here on, this is to happen.
    pub fn arm(&self, point: Point) {
        *lock(&self.shared.point) = Some(Progress::new(point));
    }

    /// The outcome of the point, after all of it has happened.
    pub fn outcome(&self) -> Option<Outcome> {
        lock(&self.shared.point).as_ref().and_then(Progress::outcome)
    }

    /// How far the point has come, for a message.
    pub fn state(&self) -> String {
        lock(&self.shared.point).as_ref().map(Progress::describe).unwrap_or_default()
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        for link in lock(&self.shared.links).values() {
            link.close();
        }
    }

    /// Cuts all connections, and lets none through for so long.
    pub fn cut_for(&self, lasts: Duration) {
        self.shared.is_down.store(true, Ordering::SeqCst);
        self.cut();
        thread::sleep(lasts);
        self.shared.is_down.store(false, Ordering::SeqCst);
    }
}

impl Link {
    fn close(&self) {
        self.close_client();
        let _ = self.server.shutdown(Shutdown::Both);
    }

    fn close_client(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
    }

    /// Closes the client's side. The broker may still answer.
    fn hold(&self) {
        self.is_held.store(true, Ordering::SeqCst);
    }

    fn is_held(&self) -> bool {
        self.is_held.load(Ordering::SeqCst)
    }

    /// To the broker.
    fn forward(&self, frame: &[u8], head: Head, fate: Fate) -> std::io::Result<()> {
        let mut pending = lock(&self.pending);
        pending.push_back(Waiting { head, fate });
        (&self.server).write_all(frame)
    }
}

impl Shared {
    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (pending, is_held) = (Mutex::default(), AtomicBool::new(false));
        let link = Arc::new(Link { client, server, pending, is_held });
        let number = self.next_link.fetch_add(1, Ordering::SeqCst);
        lock(&self.links).insert(number, Arc::clone(&link));
        let (shared, up) = (Arc::clone(self), Arc::clone(&link));
        thread::spawn(move || {
            let _ = shared.requests(&up); // what goes wrong in here shows as what the run makes of it
            if !up.is_held() {
                up.close();
            }
        });
        let shared = Arc::clone(self);
        thread::spawn(move || {
            let _ = shared.answers(&link);
            link.close();
            lock(&shared.links).remove(&number);
        });
    }

    fn requests(&self, link: &Arc<Link>) -> std::io::Result<()> {
        loop {
            let frame = wire::read_frame(&link.client)?;
            if link.is_held() {
                continue; // nothing passes what is held back
            }
            let head = wire::head(&frame);
            match self.act_on(&head) {
                None => link.forward(&frame, head, Fate::PassOn)?,
                Some(Act::Delay(lasts)) => {
                    thread::sleep(lasts);
                    link.forward(&frame, head, Fate::PassOn)?;
                }
                Some(Act::DelayAnswer(lasts)) => link.forward(&frame, head, Fate::PassOnAfter(lasts))?,
                Some(Act::LoseRequest) => {
                    link.close();
                    return Ok(());
                }
                Some(Act::LoseAnswer) => {
                    link.hold();
                    link.forward(&frame, head, Fate::DropAndClose)?;
                    link.close_client();
                }
                Some(act @ (Act::Late | Act::LateByTimeout | Act::Twice)) => {
                    link.hold();
                    if act == Act::Twice {
                        link.forward(&frame, head, Fate::Drop)?;
                    }
                    if let Some(progress) = &mut *lock(&self.point) {
                        progress.hold(Held { frame, head, link: Arc::clone(link) });
                    }
                    if act != Act::LateByTimeout {
                        link.close_client();
                    }
                }
            }
        }
    }

    fn act_on(&self, head: &Head) -> Option<Act> {
        lock(&self.point).as_mut()?.request(head.key)
    }

    fn answers(&self, link: &Arc<Link>) -> std::io::Result<()> {
        loop {
            let mut answer = wire::read_frame(&link.server)?;
            let Some(Waiting { head, fate }) = lock(&link.pending).pop_front() else { return Ok(()) };
            let code = wire::error_code(head, &answer);
            match fate {
                Fate::PassOn | Fate::PassOnAfter(_) => {
                    if let Fate::PassOnAfter(lasts) = fate {
                        thread::sleep(lasts);
                    }
                    self.answered(head.key, code);
                    if matches!(head.key, wire::METADATA | wire::FIND_COORDINATOR) {
                        wire::redirect(&mut answer, &Stack::get().bootstrap, self.own_port);
                    }
                    let passed = (&link.client).write_all(&answer);
                    if !link.is_held() {
                        passed?;
                    }
                }
                Fate::Drop => {}
                Fate::DropAndClose => return Ok(()),
                Fate::Late => {
                    if let Some(progress) = &mut *lock(&self.point) {
                        progress.late_answer(code);
                    }
                    self.changed.notify_all();
                    return Ok(());
                }
            }
        }
    }

    /// Before the answer is passed on: where the point says so, the request that was held back goes first, and is answered.
    fn answered(&self, key: i16, code: Option<i16>) {
        let mut point = lock(&self.point);
        let Some(Step::Release(held, wait)) = point.as_mut().map(|progress| progress.answer(key, code)) else { return };
        drop(point);
        thread::sleep(wait);
        let released = held.link.forward(&held.frame, held.head, Fate::Late);
        let deadline = Instant::now() + LATE_ANSWER;
        let mut point = lock(&self.point);
        while released.is_ok() && Instant::now() < deadline && point.as_ref().is_some_and(Progress::is_released) {
            point = self.changed.wait_timeout(point, LATE_ANSWER).unwrap_or_else(PoisonError::into_inner).0;
        }
        if let Some(progress) = &mut *point {
            progress.give_up();
        }
    }
}
