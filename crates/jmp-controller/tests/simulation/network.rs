//! Connections in memory that can be slow, stall and break, and who is behind the addresses.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jmp_controller::Controller;
use jmp_router::MemoryDialer;
use jmp_wire::endpoint::{Connector, Endpoint};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dice::Dice;

/// Address of the controller.
pub const CONTROLLER: &str = "controller:8082";
/// Bytes on their way in one direction.
pub const BUFFER: usize = 16 * 1024;
/// A stall that long may cost a connection.
const HARMFUL: Duration = Duration::from_secs(10);

/// Which server a connection leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Controller,
    Router,
}

/// All connections.
pub struct Network {
    seed: u64,
    state: Mutex<State>,
    tasks: TaskTracker,
    /// Nothing goes wrong any more.
    calm: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    controller: Option<Arc<Controller>>,
    router: Option<MemoryDialer>,
    links: BTreeMap<u64, Link>,
    last: u64,
    /// How often a connection of somebody to the router was harmed.
    harm: BTreeMap<String, u64>,
}

#[derive(Clone)]
struct Link {
    from: String,
    to: Place,
    stalled: watch::Sender<[bool; 2]>,
    cut: CancellationToken,
}

// === impl Network ===

impl Network {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            seed,
            state: Mutex::default(),
            tasks: TaskTracker::new(),
            calm: Arc::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn controller(&self) -> Option<Arc<Controller>> {
        self.lock().controller.clone()
    }

    pub fn set_controller(&self, controller: Option<Arc<Controller>>) {
        self.lock().controller = controller;
    }

    pub fn set_router(&self, router: Option<MemoryDialer>) {
        self.lock().router = router;
    }

    /// Makes the connections of `who`.
    pub fn connector(self: &Arc<Self>, who: &str) -> Connector {
        let (network, who) = (Arc::clone(self), who.to_owned());
        Connector::in_memory(move |endpoint: &Endpoint| {
            let (network, who, to) = (Arc::clone(&network), who.clone(), endpoint.to_string());
            Box::pin(async move {
                let io = network.open(&who, &to).await?;
                Ok(Box::new(io) as _)
            })
        })
    }

    /// Opens a connection.
    pub async fn open(&self, who: &str, to: &str) -> io::Result<DuplexStream> {
        let (ours, inner) = tokio::io::duplex(BUFFER);
        let place = if to == CONTROLLER {
            Place::Controller
        } else {
            Place::Router
        };
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let outer = match place {
            Place::Controller => {
                let controller = self.controller().ok_or_else(refused)?;
                let (outer, theirs) = tokio::io::duplex(BUFFER);
                controller.accept_io(theirs, Some([192, 0, 2, 7].into()));
                outer
            }
            Place::Router => {
                let router = self.lock().router.clone().ok_or_else(refused)?;
                router.dial(who).await?
            }
        };
        let link = Link {
            from: who.to_owned(),
            to: place,
            stalled: watch::Sender::new([false; 2]),
            cut: CancellationToken::new(),
        };
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        state.links.insert(number, link.clone());
        let of = format!("link {who} {to} {number}");
        drop(state);
        let dice = [
            Dice::of(self.seed, &of),
            Dice::of(self.seed, &format!("{of} back")),
        ];
        self.tasks.spawn(carry(link, inner, outer, dice));
        Ok(ours)
    }

    /// Breaks connections at once.
    pub fn cut(&self, which: impl Fn(&str, Place) -> bool) {
        let mut state = self.lock();
        state.links.retain(|_, link| !link.cut.is_cancelled());
        let is_meant = |link: &mut Link| which(&link.from, link.to);
        let cut: Vec<Link> = state
            .links
            .extract_if(.., |_, link| is_meant(link))
            .map(|(_, link)| link)
            .collect();
        for link in cut {
            link.cut.cancel();
            state.harm(&link);
        }
    }

    /// Breaks one connection.
    pub fn cut_one(&self, dice: &mut Dice) {
        let chosen = self.lock().choose(dice);
        let Some(chosen) = chosen else { return };
        let mut state = self.lock();
        if let Some(link) = state.links.remove(&chosen) {
            link.cut.cancel();
            state.harm(&link);
        }
    }

    /// Lets one direction of a connection stall for a while; then it goes on, or breaks.
    pub fn stall_one(&self, dice: &mut Dice) {
        let mut state = self.lock();
        let Some(link) = state
            .choose(dice)
            .and_then(|number| state.links.get(&number))
        else {
            return;
        };
        let link = link.clone();
        let direction = dice.below(2) as usize;
        let both = dice.percent(30);
        let time = dice.milliseconds(100, 90_000);
        let breaks = dice.percent(50);
        if breaks || time >= HARMFUL {
            state.harm(&link);
        }
        link.stalled.send_modify(|stalled| {
            stalled[direction] = true;
            stalled[1 - direction] |= both;
        });
        let calm = Arc::clone(&self.calm);
        self.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = link.cut.cancelled() => return,
            }
            if breaks && !calm.load(Ordering::Relaxed) {
                link.cut.cancel();
            }
            link.stalled.send_replace([false; 2]);
        });
    }

    /// The last fault is over: what stalls goes on.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
        for link in self.lock().links.values() {
            link.stalled.send_replace([false; 2]);
        }
    }

    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// How often something happened to a connection of `who` to the router.
    pub fn harm(&self, who: &str) -> u64 {
        self.lock().harm.get(who).copied().unwrap_or_default()
    }

    /// Something happened to `who` that its tunnels may not survive.
    pub fn harmed(&self, who: &str) {
        *self.lock().harm.entry(who.to_owned()).or_default() += 1;
    }

    pub async fn close(&self) {
        self.cut(|_, _| true);
        self.tasks.close();
        self.tasks.wait().await;
    }
}

// === impl State ===

impl State {
    fn choose(&mut self, dice: &mut Dice) -> Option<u64> {
        self.links.retain(|_, link| !link.cut.is_cancelled());
        let index = dice.below(self.links.len() as u64) as usize;
        self.links.keys().nth(index).copied()
    }

    fn harm(&mut self, link: &Link) {
        if link.to == Place::Router {
            *self.harm.entry(link.from.clone()).or_default() += 1;
        }
    }
}

async fn carry(link: Link, near: DuplexStream, far: DuplexStream, dice: [Dice; 2]) {
    let (near_reader, near_writer) = tokio::io::split(near);
    let (far_reader, far_writer) = tokio::io::split(far);
    let [there, back] = dice;
    let both = async {
        // Whichever direction ends first, the other one may still have something to say.
        tokio::join!(
            pump(near_reader, far_writer, &link, 0, there),
            pump(far_reader, near_writer, &link, 1, back),
        )
    };
    tokio::select! {
        biased;
        () = link.cut.cancelled() => {}
        _ = both => link.cut.cancel(),
    }
}

async fn pump<R, W>(mut from: R, mut to: W, link: &Link, direction: usize, mut dice: Dice)
where
    R: tokio::io::AsyncRead + Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    let mut stalled = link.stalled.subscribe();
    let slow = dice.percent(10);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let most = if slow { 400 } else { 10 };
        tokio::time::sleep(dice.milliseconds(0, most)).await;
        if stalled
            .wait_for(|stalled| !stalled[direction])
            .await
            .is_err()
        {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
