//! Word to the service manager, as sd_notify(3) describes it.

use std::os::unix::net::UnixDatagram;

/// Tells the service manager, if there is one that wants to hear it.
pub fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
        return;
    };
    let sent = UnixDatagram::unbound().and_then(|socket| {
        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt;
            use std::os::unix::ffi::OsStrExt;
            // A name in the abstract namespace.
            if let Some(name) = path.as_bytes().strip_prefix(b"@") {
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                return socket.send_to_addr(state.as_bytes(), &address);
            }
        }
        socket.send_to(state.as_bytes(), &path)
    });
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager cannot be told {state}");
    }
}
