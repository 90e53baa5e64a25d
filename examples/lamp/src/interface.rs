//! What can be done with a lamp, and the client-side logic.

use std::time::Duration;

use futures::Stream;
use jmp_driver::{Resource, Result, interface};
use jmp_interfaces::resource::{Source, TransferOptions, upload};

/// A lamp that can be dimmed.
#[interface(client = "example_lamp.client.LampClient")]
pub trait Lamp: Send + Sync + 'static {
    /// Set the brightness in percent.
    async fn set(&self, percent: u8) -> Result<()>;

    /// Tell the brightness in percent.
    async fn get(&self) -> Result<u8>;

    /// Tell the brightness in percent now and whenever it changes.
    fn watch(&self) -> impl Stream<Item = Result<u8>> + Send;

    /// Play a pattern, one line `PERCENT MILLISECONDS` a step; returns the steps played.
    async fn play(&self, pattern: Resource, #[default(1)] times: u32) -> Result<u32>;
}

// === impl LampClient ===

impl LampClient {
    /// Switches on and off again `times` times, `half` of a period each.
    ///
    /// # Errors
    ///
    /// Those of the first step that fails.
    pub async fn blink(&self, times: u32, half: Duration) -> Result<()> {
        for _ in 0..times {
            self.set(100).await?;
            tokio::time::sleep(half).await;
            self.set(0).await?;
            tokio::time::sleep(half).await;
        }
        Ok(())
    }

    /// Plays the pattern of a file, or of anything else that can be a source.
    ///
    /// # Errors
    ///
    /// If the source cannot be read or a line of it makes no sense.
    pub async fn play_from(&self, source: impl Into<Source>, times: u32) -> Result<u32> {
        let options = TransferOptions::default();
        upload(self.handle(), source, &options, |pattern| {
            self.play(pattern, times)
        })
        .await
    }
}
