//! What configuration files say about a lamp.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// `config` of [`crate::Led`].
#[derive(Debug, Deserialize, JsonSchema)]
pub struct LedConfig {
    /// Directory of the LED, for example `/sys/class/leds/led0`.
    pub directory: PathBuf,
    /// Brightness in percent at the start of a session.
    #[serde(default)]
    pub initial: u8,
}

/// `config` of [`crate::MockLamp`].
#[derive(Debug, Deserialize, JsonSchema)]
pub struct MockLampConfig {
    /// Fail when told to be brighter than this many percent; never by default.
    #[serde(default)]
    pub fails_above: Option<u8>,
}
