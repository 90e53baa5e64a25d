//! A [`Session`] over a socket, driven by whoever polls.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::session::Session;

/// Bytes read from the socket at a time.
const READ_CHUNK: usize = 4096;

/// Who is polling. Each role has one waker, so at most one task may act in each.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    Reader,
    Writer,
    Control,
}

/// The socket can wake one task per direction, but reader, writer and control all wait for the same things (an answer
/// arrives among data). They register here, and the socket wakes them all.
#[derive(Debug, Default)]
struct Waiters(Mutex<[Option<Waker>; 3]>);

impl Waiters {
    fn register(&self, role: Role, waker: &Waker) {
        lock(&self.0)[role as usize] = Some(waker.clone());
    }

    fn unregister(&self, role: Role) {
        lock(&self.0)[role as usize] = None;
    }

    /// Wakes every role but this one, which is polling.
    fn wake_others(&self, role: Role) {
        let mut others = {
            let mut wakers = lock(&self.0);
            let own = wakers[role as usize].take();
            let others = std::mem::take(&mut *wakers);
            wakers[role as usize] = own;
            others
        };
        others
            .iter_mut()
            .filter_map(Option::take)
            .for_each(Waker::wake);
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakers = std::mem::take(&mut *lock(&self.0));
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
    }
}

/// Takes a lock whose holder cannot have left the data half-changed in a way that matters here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why nothing more comes from the socket.
#[derive(Debug, Clone)]
enum Ended {
    ByPeer,
    Closed,
    Failed(io::ErrorKind, String),
}

/// Socket and session together.
#[derive(Debug)]
pub(super) struct Connection<S> {
    session: Session,
    /// Gone once the connection was closed from here.
    socket: Option<S>,
    ended: Option<Ended>,
    waiters: Arc<Waiters>,
    /// Name of the server in error messages.
    peer: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(socket: S, peer: String) -> Self {
        Self {
            session: Session::start(),
            socket: Some(socket),
            ended: None,
            waiters: Arc::default(),
            peer,
        }
    }

    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Ends the connection at once; every waiting task sees its end.
    pub(super) fn close(&mut self) {
        self.socket = None;
        self.session.discard_received();
        self.ended.get_or_insert(Ended::Closed);
        self.waiters.wake_by_ref();
    }

    /// The error for somebody who needs the connection to go on.
    fn end_error(&self) -> Option<io::Error> {
        let peer = &self.peer;
        Some(match self.ended.as_ref()? {
            Ended::ByPeer => io::Error::new(
                io::ErrorKind::ConnectionReset,
                format!(
                    "the RFC 2217 server {peer} closed the connection; is its port in use by another client?"
                ),
            ),
            Ended::Closed => io::Error::new(
                io::ErrorKind::BrokenPipe,
                format!("the connection to {peer} was closed on this side"),
            ),
            Ended::Failed(kind, reason) => io::Error::new(
                *kind,
                format!("the connection to the RFC 2217 server {peer} broke: {reason}"),
            ),
        })
    }

    /// Sends and receives what is possible now, with the socket waking every registered task. Returns whether anything moved.
    fn drive(&mut self) -> bool {
        let Some(socket) = &mut self.socket else {
            return false;
        };
        let waker = Waker::from(Arc::clone(&self.waiters));
        let mut context = Context::from_waker(&waker);
        let mut moved = false;
        // Receiving may queue answers, which are sent in the next round.
        while self.ended.is_none() {
            let mut round = false;
            if !self.session.outgoing().is_empty() {
                match Pin::new(&mut *socket).poll_write(&mut context, self.session.outgoing()) {
                    Poll::Ready(Ok(0)) => self.ended = Some(Ended::ByPeer),
                    Poll::Ready(Ok(length)) => {
                        self.session.sent(length);
                        round = true;
                    }
                    Poll::Ready(Err(error)) => self.ended = Some(failed(&error)),
                    Poll::Pending => {}
                }
            }
            if self.session.wants_input() {
                let mut chunk = [0; READ_CHUNK];
                let mut buffer = ReadBuf::new(&mut chunk);
                match Pin::new(&mut *socket).poll_read(&mut context, &mut buffer) {
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        self.ended = Some(Ended::ByPeer)
                    }
                    Poll::Ready(Ok(())) => {
                        round = true;
                        if let Err(reason) = self.session.receive(buffer.filled()) {
                            self.ended = Some(Ended::Failed(io::ErrorKind::InvalidData, reason));
                        }
                    }
                    Poll::Ready(Err(error)) => self.ended = Some(failed(&error)),
                    Poll::Pending => {}
                }
            }
            moved |= round || self.ended.is_some();
            if !round {
                break;
            }
        }
        moved
    }

    /// Drives the connection for one role until `done` says that its wait is over.
    fn poll_role<T>(
        &mut self,
        role: Role,
        context: &mut Context<'_>,
        mut done: impl FnMut(&mut Self) -> Option<T>,
    ) -> Poll<T> {
        self.waiters.register(role, context.waker());
        let moved = self.drive();
        let result = done(self);
        if result.is_some() {
            self.waiters.unregister(role);
        }
        // What moved may be what another role waits for, and what was taken may have made room for it.
        if moved || result.is_some() {
            self.waiters.wake_others(role);
        }
        result.map_or(Poll::Pending, Poll::Ready)
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_role(Role::Reader, context, |connection| {
            if connection.session.unread() > 0 {
                connection.session.read_into(buffer);
                return Some(Ok(()));
            }
            match connection.ended.as_ref()? {
                Ended::ByPeer | Ended::Closed => Some(Ok(())),
                Ended::Failed(..) => connection.end_error().map(Err),
            }
        })
    }

    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_role(Role::Writer, context, |connection| {
            if let Some(error) = connection.end_error() {
                return Some(Err(error));
            }
            let taken = connection.session.queue_data(data);
            if taken == 0 {
                return None;
            }
            connection.drive();
            Some(Ok(taken))
        })
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_role(Role::Writer, context, |connection| {
            if connection.session.outgoing().is_empty() {
                return Some(Ok(()));
            }
            connection.end_error().map(Err)
        })
    }

    /// Drives the connection for the control role until `done` finds what it waits for.
    pub(super) fn poll_control<T>(
        &mut self,
        context: &mut Context<'_>,
        mut done: impl FnMut(&mut Session) -> Option<T>,
    ) -> Poll<io::Result<T>> {
        self.poll_role(Role::Control, context, |connection| {
            match done(&mut connection.session) {
                Some(value) => Some(Ok(value)),
                None => connection.end_error().map(Err),
            }
        })
    }

    /// Sends what can be sent now, for somebody who cannot wait.
    pub(super) fn send_now(&mut self) {
        if self.drive() {
            self.waiters.wake_by_ref();
        }
    }
}

fn failed(error: &io::Error) -> Ended {
    Ended::Failed(error.kind(), error.to_string())
}

/// A connection shared between a stream and its controls.
#[derive(Debug)]
pub(super) struct Shared<S>(Arc<Mutex<Connection<S>>>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Shared<S> {
    pub(super) fn new(connection: Connection<S>) -> Self {
        Self(Arc::new(Mutex::new(connection)))
    }

    /// Held only for the length of one poll.
    pub(super) fn lock(&self) -> MutexGuard<'_, Connection<S>> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::super::session::RECEIVE_LIMIT;
    use super::*;

    const SUSPEND: [u8; 6] = [255, 250, 44, 108, 255, 240];
    const RESUME: [u8; 6] = [255, 250, 44, 109, 255, 240];

    fn connection() -> (Shared<DuplexStream>, DuplexStream) {
        let (near, far) = duplex(1024);
        (Shared::new(Connection::new(near, "test".to_owned())), far)
    }

    /// A task that writes one byte, and is idle until it can.
    fn spawn_writer(shared: &Shared<DuplexStream>) -> tokio::task::JoinHandle<io::Result<usize>> {
        let shared = shared.clone();
        tokio::spawn(
            async move { poll_fn(|context| shared.lock().poll_write(context, b"x")).await },
        )
    }

    async fn read(shared: &Shared<DuplexStream>) -> io::Result<Vec<u8>> {
        let mut bytes = [0; 64];
        let mut buffer = ReadBuf::new(&mut bytes);
        poll_fn(|context| shared.lock().poll_read(context, &mut buffer)).await?;
        Ok(buffer.filled().to_vec())
    }

    async fn soon<T>(future: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(10), future)
            .await
            .expect("it happens in time")
    }

    #[tokio::test]
    async fn a_suspended_writer_is_resumed_without_a_reader() {
        let (shared, mut far) = connection();
        far.write_all(&SUSPEND).await.unwrap();
        shared.lock().send_now();
        let writer = spawn_writer(&shared);
        tokio::task::yield_now().await;
        assert!(!writer.is_finished());
        far.write_all(&RESUME).await.unwrap();
        assert_eq!(soon(writer).await.unwrap().unwrap(), 1);
    }

    #[tokio::test]
    async fn a_reader_gets_what_a_control_received() {
        let (shared, mut far) = connection();
        let reader = tokio::spawn({
            let shared = shared.clone();
            async move { read(&shared).await }
        });
        tokio::task::yield_now().await;
        // The control polls last, so that the socket would wake it alone.
        let control = tokio::spawn({
            let shared = shared.clone();
            async move {
                poll_fn(|context| {
                    shared
                        .lock()
                        .poll_control(context, |session| session.modem_state().0)
                })
                .await
            }
        });
        tokio::task::yield_now().await;
        far.write_all(b"data").await.unwrap();
        assert_eq!(soon(reader).await.unwrap().unwrap(), b"data");
        far.write_all(&[255, 250, 44, 107, 16, 255, 240])
            .await
            .unwrap();
        assert!(soon(control).await.unwrap().unwrap().clear_to_send());
    }

    #[tokio::test]
    async fn a_peer_is_held_back_while_nobody_reads() {
        let (shared, mut far) = connection();
        let flood = tokio::spawn(async move { far.write_all(&vec![7; 4 * RECEIVE_LIMIT]).await });
        for _ in 0..1000 {
            shared.lock().send_now();
            tokio::task::yield_now().await;
        }
        let unread = shared.lock().session().unread();
        assert!(
            (RECEIVE_LIMIT..RECEIVE_LIMIT + READ_CHUNK).contains(&unread),
            "{unread}"
        );
        let mut total = 0;
        while total < 4 * RECEIVE_LIMIT {
            total += soon(read(&shared)).await.unwrap().len();
        }
        soon(flood).await.unwrap().unwrap();
        assert_eq!(
            soon(read(&shared)).await.unwrap(),
            b"",
            "the end comes after the data"
        );
    }

    #[tokio::test]
    async fn a_reader_that_makes_room_wakes_the_control() {
        let (near, mut far) = duplex(4 * RECEIVE_LIMIT);
        let shared = Shared::new(Connection::new(near, "test".to_owned()));
        // Everything is in the pipe at once, so that no event of the socket comes to help.
        far.write_all(&vec![7; 2 * RECEIVE_LIMIT]).await.unwrap();
        far.write_all(&[255, 250, 44, 107, 16, 255, 240])
            .await
            .unwrap();
        let control = tokio::spawn({
            let shared = shared.clone();
            async move {
                poll_fn(|context| {
                    shared
                        .lock()
                        .poll_control(context, |session| session.modem_state().0)
                })
                .await
            }
        });
        tokio::task::yield_now().await;
        assert!(!control.is_finished());
        let mut total = 0;
        while total < 2 * RECEIVE_LIMIT {
            total += soon(read(&shared)).await.unwrap().len();
        }
        assert!(soon(control).await.unwrap().unwrap().clear_to_send());
    }

    #[tokio::test]
    async fn closing_wakes_everybody() {
        let (shared, mut far) = connection();
        far.write_all(&SUSPEND).await.unwrap();
        shared.lock().send_now();
        let writer = spawn_writer(&shared);
        let reader = tokio::spawn({
            let shared = shared.clone();
            async move { read(&shared).await }
        });
        tokio::task::yield_now().await;
        shared.lock().close();
        assert_eq!(
            soon(writer).await.unwrap().unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        assert_eq!(soon(reader).await.unwrap().unwrap(), b"");
        let mut rest = Vec::new();
        soon(far.read_to_end(&mut rest)).await.unwrap();
    }
}
