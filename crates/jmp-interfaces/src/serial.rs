//! Serial consoles (facts: drivers 1.4).

use jmp_driver::{ByteStream, Result, interface};

/// A serial port.
#[interface(client = "jumpstarter_driver_pyserial.client.PySerialClient")]
pub trait Serial: Send + Sync + 'static {
    /// Send and receive raw bytes.
    #[stream]
    async fn connect(&self) -> Result<ByteStream>;
}

/// The parts of a serial port that only real ports have.
#[interface(client = "jumpstarter_driver_pyserial.client.PySerialClient")]
pub trait SerialControl: Send + Sync + 'static {
    /// Close the open port, so that its streams end.
    #[method(name = "close")]
    async fn close_port(&self) -> Result<()>;

    /// Set the DTR line.
    async fn set_dtr(&self, active: bool) -> Result<()>;

    /// Set the RTS line.
    async fn set_rts(&self, active: bool) -> Result<()>;
}

/// A console whose history is kept.
#[interface(client = "jumpstarter_driver_pyserial.client.PySerialClient")]
pub trait SerialReplay: Send + Sync + 'static {
    /// Send and receive raw bytes, after those that were received already.
    #[stream]
    async fn replay(&self) -> Result<ByteStream>;
}
