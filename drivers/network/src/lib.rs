//! TCP, UDP, Unix, echo, WebSocket, vsock and D-Bus networks
