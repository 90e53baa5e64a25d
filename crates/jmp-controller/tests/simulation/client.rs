//! People who lease devices, with the library that the program uses.

use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use jmp_client::controller::{Controller, LeaseChange, LeaseRequest};
use jmp_client::lease::wait_until_ready;
use jmp_client::{ByteStream, Error, LeaseDial};
use jmp_wire::endpoint::{CallerKind, Credentials};
use jmp_wire::stream::ByteReader;
use tokio::time::timeout;
use tonic::Code;

use super::dice::Dice;
use super::ledger::{Judge, Ledger};
use super::network::{CONTROLLER, Network};

/// How long a line may take to come back: longer than any stall.
const ANSWER: Duration = Duration::from_secs(240);

/// Somebody with a credential.
pub struct Person {
    name: String,
    others: Vec<String>,
    exporters: Vec<String>,
    controller: Controller,
    dice: Dice,
    network: Arc<Network>,
    ledger: Arc<Ledger>,
    /// The store as it is.
    judge: tokio::sync::watch::Receiver<Arc<Judge>>,
    /// Whether the router is another one now.
    router: tokio::sync::watch::Receiver<u64>,
    made: u64,
}

/// What everybody shares.
#[derive(Clone)]
pub struct Surroundings {
    pub network: Arc<Network>,
    pub ledger: Arc<Ledger>,
    pub judge: tokio::sync::watch::Receiver<Arc<Judge>>,
    pub router: tokio::sync::watch::Receiver<u64>,
    pub exporters: Vec<String>,
    pub people: Vec<String>,
}

// === impl Person ===

impl Person {
    pub fn new(name: &str, token: &str, around: Surroundings, seed: u64) -> Self {
        let credentials = Credentials {
            kind: CallerKind::Client,
            namespace: "default".into(),
            name: name.into(),
            token: token.into(),
        };
        let connector = around.network.connector(name);
        let endpoint = CONTROLLER.parse().unwrap();
        Self {
            controller: Controller::new(connector, endpoint, &credentials).unwrap(),
            dice: Dice::of(seed, name),
            others: around
                .people
                .into_iter()
                .filter(|one| one != name)
                .collect(),
            name: name.into(),
            exporters: around.exporters,
            network: around.network,
            ledger: around.ledger,
            judge: around.judge,
            router: around.router,
            made: 0,
        }
    }

    /// Leases and works until nothing goes wrong any more, then finishes.
    pub async fn live(mut self) -> Self {
        while !self.network.is_calm() {
            let pause = self.dice.milliseconds(0, 4000);
            tokio::time::sleep(pause).await;
            self.use_one().await;
        }
        self
    }

    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    pub fn report(&self, problem: String) {
        self.ledger.problem(problem);
    }

    async fn use_one(&mut self) {
        self.made += 1;
        let name = format!("{}-{}", self.name, self.made);
        let begin = self.dice.percent(15).then(|| {
            let judge = self.network.controller()?;
            let seconds = self.dice.between(1, 40);
            judge
                .context()
                .now()
                .checked_add(Duration::from_secs(seconds))
                .ok()
        });
        let pinned = self.dice.percent(25);
        let request = LeaseRequest {
            selector: if pinned {
                String::new()
            } else {
                (*self.dice.pick(&["a=1", "b=1", "a"])).into()
            },
            exporter: pinned.then(|| self.dice.pick(&self.exporters).clone()),
            duration: Some(Duration::from_secs(self.dice.between(5, 90))),
            begin: begin.flatten(),
            name: Some(name.clone()),
            ..LeaseRequest::default()
        };
        if !self.create(&request).await {
            return;
        }
        let patience = self.dice.milliseconds(5_000, 100_000);
        let ready = wait_until_ready(&self.controller, &name, patience, |_, _| {}).await;
        if ready.is_ok() {
            for _ in 0..self.dice.between(1, 3) {
                self.tunnel(&name, 60).await;
                self.change(&name).await;
            }
        }
        // Some just vanish.
        if self.dice.percent(75) {
            self.release(&name).await;
        }
    }

    /// Makes a lease, asking again until the answer is clear; whether there is one.
    pub async fn create(&mut self, request: &LeaseRequest) -> bool {
        let name = request.name.clone().unwrap();
        let seconds = request.duration.unwrap().as_secs();
        self.ledger.promise(&name, |promised| {
            promised.durations = vec![seconds];
            promised.holders = vec![self.name.clone()];
        });
        let twice = self.dice.percent(8);
        for _ in 0..20 {
            let answers = if twice {
                let (one, other) = tokio::join!(
                    self.controller.create_lease(request),
                    self.controller.create_lease(request),
                );
                vec![one, other]
            } else {
                vec![self.controller.create_lease(request).await]
            };
            for answer in answers {
                self.ledger
                    .note(|| format!("{} makes {name}: {answer:?}", self.name));
                match answer {
                    Ok(_) => {
                        self.ledger
                            .acknowledged(&name, |promised| promised.created = true);
                        return true;
                    }
                    Err(error) if unsure(&error) => {}
                    // An earlier attempt got through.
                    Err(Error::Refused { message, .. }) if message.contains("already exists") => {
                        self.ledger
                            .acknowledged(&name, |promised| promised.created = true);
                        return true;
                    }
                    // A reservation is in the way, and the like.
                    Err(_) => return false,
                }
            }
            let pause = self.dice.milliseconds(200, 4000);
            tokio::time::sleep(pause).await;
        }
        false
    }

    /// Ends a lease; asks again, because shipped clients do.
    pub async fn release(&mut self, name: &str) {
        for _ in 0..20 {
            let answer = self.controller.delete_lease(name).await;
            self.ledger
                .note(|| format!("{} releases {name}: {answer:?}", self.name));
            match answer {
                Ok(()) => {
                    self.ledger
                        .acknowledged(name, |promised| promised.released = true);
                    return;
                }
                Err(error) if unsure(&error) => {}
                Err(_) => return,
            }
            let pause = self.dice.milliseconds(200, 4000);
            tokio::time::sleep(pause).await;
        }
    }

    /// Makes it longer, or hands it over.
    async fn change(&mut self, name: &str) {
        let change = match self.dice.below(10) {
            0..=2 => LeaseChange {
                duration: Some(Duration::from_secs(self.dice.between(30, 120))),
                ..LeaseChange::default()
            },
            3 => LeaseChange {
                client: Some(self.dice.pick(&self.others).clone()),
                ..LeaseChange::default()
            },
            _ => return,
        };
        let seconds = change.duration.map(|duration| duration.as_secs());
        self.ledger.promise(name, |promised| {
            promised.durations.extend(seconds);
            promised.holders.extend(change.client.clone());
        });
        let answer = self.controller.update_lease(name, &change).await;
        self.ledger
            .note(|| format!("{} changes {name}: {answer:?}", self.name));
        if answer.is_ok() {
            self.ledger.acknowledged(name, |promised| {
                if let Some(seconds) = seconds {
                    promised.durations = vec![seconds];
                }
                if let Some(client) = change.client {
                    promised.holders = vec![client];
                }
            });
        }
    }

    /// Talks to the exporter of a lease; whether it answered every line.
    pub async fn tunnel(&mut self, lease: &str, patience: u64) -> bool {
        let patience = Duration::from_secs(patience);
        // The exporter's end may be harmed before ours is there.
        let before = self.causes(lease);
        let dial = LeaseDial::new(self.controller.clone(), lease, patience);
        let tunnel = match dial.open().await {
            Ok(tunnel) => tunnel,
            Err(error) => {
                self.ledger
                    .note(|| format!("{} no tunnel of {lease}: {error}", self.name));
                return false;
            }
        };
        self.ledger.count(|counts| counts.tunnels += 1);
        match self.talk(lease, tunnel).await {
            Ok(()) => true,
            Err(reason) => {
                // The lease may be told to be over a moment after its tunnels are.
                tokio::time::sleep(Duration::from_secs(1)).await;
                let after = self.causes(lease);
                self.ledger
                    .note(|| format!("{} tunnel of {lease} broke: {reason}", self.name));
                let holds = after
                    .as_ref()
                    .is_some_and(|after| after.holder == self.name && !after.ended);
                if holds && before == after {
                    self.ledger.problem(format!(
                        "the tunnel of {} through lease {lease} broke without a cause: {reason}",
                        self.name
                    ));
                }
                self.ledger.count(|counts| counts.broken += 1);
                false
            }
        }
    }

    async fn talk(&mut self, lease: &str, mut tunnel: ByteStream) -> Result<(), String> {
        let lines = self.dice.between(2, 8);
        let mut rest = Vec::new();
        // The greeting.
        line_of(&mut tunnel.reader, &mut rest, 0).await?;
        for number in 1..=lines {
            let most = if self.dice.percent(20) { 15_000 } else { 300 };
            let pause = self.dice.milliseconds(0, most);
            tokio::time::sleep(pause).await;
            // Some messages are too long for one piece.
            let filler = "x".repeat(if self.dice.percent(5) { 40_000 } else { 10 });
            let line = format!("{lease} {} {number} {filler}\n", self.name);
            let sent = timeout(ANSWER, tunnel.writer.send(line.clone().into())).await;
            sent.map_err(|_| "stuck")?
                .map_err(|error| error.to_string())?;
            let answer = line_of(&mut tunnel.reader, &mut rest, number).await?;
            let text = String::from_utf8_lossy(&answer);
            let (exporter, echoed) = text.split_once(' ').unwrap_or_default();
            if echoed != format!("{lease} {line}") {
                self.ledger.problem(format!(
                    "{} sent line {number} through {lease} and got '{}' of {exporter}",
                    self.name,
                    &echoed[..echoed.len().min(60)]
                ));
            }
            self.ledger.count(|counts| counts.lines += 1);
        }
        let _ = tunnel.writer.close().await;
        let end = timeout(ANSWER, tunnel.reader.next()).await;
        self.ledger
            .note(|| format!("{} tunnel of {lease} is over: {end:?}", self.name));
        Ok(())
    }

    fn causes(&self, lease: &str) -> Option<Causes> {
        let found = self.judge.borrow().lease(lease)?;
        let exporter = found.exporter().map(|key| key.name).unwrap_or_default();
        Some(Causes {
            ours: self.network.harm(&self.name),
            theirs: self.network.harm(&exporter),
            router: *self.router.borrow(),
            ended: found.status.ended || found.spec.release,
            holder: found.spec.client_ref.name,
        })
    }
}

/// What a tunnel may break of.
#[derive(Debug, PartialEq, Eq)]
struct Causes {
    ours: u64,
    theirs: u64,
    router: u64,
    ended: bool,
    holder: String,
}

/// Whether what was asked for may have happened, or may happen when asked again.
fn unsure(error: &Error) -> bool {
    match error {
        Error::ControllerUnreachable(_) => true,
        Error::Refused { status, .. } => {
            matches!(
                status.code(),
                Code::Unavailable
                    | Code::DeadlineExceeded
                    | Code::Cancelled
                    | Code::Aborted
                    | Code::Internal
                    | Code::ResourceExhausted
            ) || status.code() == Code::Unknown && !status.message().contains("lease")
        }
        _ => false,
    }
}

/// What the exporter says next, to the end of the line.
async fn line_of(
    reader: &mut ByteReader,
    rest: &mut Vec<u8>,
    number: u64,
) -> Result<Vec<u8>, String> {
    loop {
        if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            return Ok(rest.drain(..=end).collect());
        }
        match timeout(ANSWER, reader.next()).await {
            Err(_) => return Err(format!("no answer to line {number}")),
            Ok(None) => return Err(format!("ended at line {number}")),
            Ok(Some(Err(error))) => return Err(format!("line {number}: {error}")),
            Ok(Some(Ok(chunk))) => rest.extend_from_slice(&chunk),
        }
    }
}
