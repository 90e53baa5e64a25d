//! The control socket between owner, supervisor and launch stage: fixed frames of nine bytes,
//! the first one with descriptors attached.
//!
//! Both ends are the same build of the same executable, so there is no version in it.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Length of a frame on the wire, in bytes.
pub(crate) const FRAME_LENGTH: usize = 9;

/// What a process could not do on the way to `exec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Make a session, take the terminal, put the standard streams in place.
    Session,
    /// Enter the working directory.
    WorkingDirectory,
    /// Become the program.
    Exec,
    /// Start the launch stage itself.
    Launcher,
}

/// One message on the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Owner to supervisor to launch stage: go; carries stdin, stdout and stderr.
    Start,
    /// Owner to supervisor: end everything.
    Terminate,
    /// Owner to supervisor: send this signal to the process group of the command.
    Signal(i32),
    /// Supervisor to owner: the program runs under this process id.
    Started(i32),
    /// Launch stage to supervisor to owner: that failed, with this errno.
    Failed(Stage, i32),
    /// Supervisor to owner: the command returned this code.
    Exited(i32),
    /// Supervisor to owner: this signal ended the command.
    Signaled(i32),
    /// Supervisor to owner: nothing is left, except for so many that even SIGKILL did not end.
    Done(i32),
}

impl Frame {
    pub(crate) fn encode(self) -> [u8; FRAME_LENGTH] {
        let (tag, first, second) = match self {
            Self::Start => (1, 0, 0),
            Self::Terminate => (2, 0, 0),
            Self::Signal(signal) => (3, signal, 0),
            Self::Started(pid) => (4, pid, 0),
            Self::Failed(stage, errno) => (5, stage as i32, errno),
            Self::Exited(code) => (6, code, 0),
            Self::Signaled(signal) => (7, signal, 0),
            Self::Done(survivors) => (8, survivors, 0),
        };
        let mut bytes = [tag; FRAME_LENGTH];
        bytes[1..5].copy_from_slice(&first.to_le_bytes());
        bytes[5..].copy_from_slice(&second.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: [u8; FRAME_LENGTH]) -> io::Result<Self> {
        let [tag, a, b, c, d, e, f, g, h] = bytes;
        let first = i32::from_le_bytes([a, b, c, d]);
        let second = i32::from_le_bytes([e, f, g, h]);
        Ok(match (tag, first) {
            (1, _) => Self::Start,
            (2, _) => Self::Terminate,
            (3, signal) => Self::Signal(signal),
            (4, pid) => Self::Started(pid),
            (5, 0) => Self::Failed(Stage::Session, second),
            (5, 1) => Self::Failed(Stage::WorkingDirectory, second),
            (5, 2) => Self::Failed(Stage::Exec, second),
            (5, 3) => Self::Failed(Stage::Launcher, second),
            (6, code) => Self::Exited(code),
            (7, signal) => Self::Signaled(signal),
            (8, survivors) => Self::Done(survivors),
            _ => return Err(io::Error::other("unknown frame on the control socket")),
        })
    }
}

/// Writes one frame.
pub(crate) fn send(mut socket: &UnixStream, frame: Frame) -> io::Result<()> {
    socket.write_all(&frame.encode())
}

/// Reads one frame; `None` when the other end is closed, orderly or not.
pub(crate) fn receive(mut socket: &UnixStream) -> Option<Frame> {
    let mut bytes = [0; FRAME_LENGTH];
    // Frames are written in one piece and are far below any socket buffer, so this never waits
    // for the rest of one.
    socket.read_exact(&mut bytes).ok()?;
    Frame::decode(bytes).ok()
}

/// Sends [`Frame::Start`] with the standard streams of the program.
pub(crate) fn send_start(socket: &UnixStream, streams: [BorrowedFd<'_>; 3]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&streams)) {
        return Err(io::Error::other("no room for three descriptors"));
    }
    let bytes = Frame::Start.encode();
    let sent = rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::empty(),
    )?;
    if sent == FRAME_LENGTH {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::WriteZero))
    }
}

/// Waits for [`Frame::Start`]; `None` when the sender has gone instead.
pub(crate) fn receive_start(socket: &UnixStream) -> Option<[OwnedFd; 3]> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; FRAME_LENGTH];
    #[cfg(target_os = "linux")]
    let flags = RecvFlags::CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = RecvFlags::empty();
    let received = loop {
        match rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            flags,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.ok()?,
        }
    };
    if received.bytes != FRAME_LENGTH {
        return None;
    }
    let descriptors: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    #[cfg(not(target_os = "linux"))]
    for descriptor in &descriptors {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC).ok()?;
    }
    descriptors.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn frames_survive_the_wire() {
        let frames = [
            Frame::Start,
            Frame::Terminate,
            Frame::Signal(15),
            Frame::Started(i32::MAX),
            Frame::Failed(Stage::Session, 1),
            Frame::Failed(Stage::WorkingDirectory, 2),
            Frame::Failed(Stage::Exec, 13),
            Frame::Failed(Stage::Launcher, 11),
            Frame::Exited(255),
            Frame::Signaled(9),
            Frame::Done(3),
        ];
        for frame in frames {
            assert_eq!(Frame::decode(frame.encode()).unwrap(), frame);
        }
        assert!(Frame::decode([0; FRAME_LENGTH]).is_err());
    }

    #[test]
    fn start_carries_three_descriptors() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (keep, _other) = UnixStream::pair().unwrap();
        send_start(&ours, [keep.as_fd(); 3]).unwrap();
        assert!(receive_start(&theirs).is_some());
        drop(ours);
        assert!(receive_start(&theirs).is_none());
    }
}
