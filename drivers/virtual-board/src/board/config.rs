//! What a user may set about the board.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Configuration of a virtual board. Every key has a default, so an empty
/// mapping is a working board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BoardConfig {
    /// How many times faster than a real board it runs: 1 boots in about four
    /// seconds plus the autoboot countdown, 100 is for tests. From 0.01 to 1000000.
    #[schemars(range(min = 0.01, max = 1_000_000.0))]
    pub speed: f64,
    /// Seconds that U-Boot counts down before it boots: the default of its
    /// `bootdelay` variable. 0 boots at once unless a key was already pressed,
    /// -1 never boots by itself, -2 boots at once and ignores keys.
    #[schemars(range(min = -2, max = 999))]
    pub autoboot_seconds: i32,
    /// Host name used when the image on the storage names none.
    pub hostname: String,
    /// Password of `root` on the serial console; without it, `root` logs in
    /// without being asked.
    pub root_password: Option<Password>,
    /// Capacity of the storage in bytes: writing more to it is refused.
    #[schemars(range(min = 512))]
    pub storage_size: u64,
    /// Voltage of the supply, in volts.
    #[schemars(range(min = 0.0, max = 60.0))]
    pub supply_volts: f64,
    /// Things that go wrong, for tests.
    pub faults: FaultsConfig,
}

/// Faults of a virtual board. Each is a probability from 0 (never) to 1
/// (always); the same `seed` makes the same things go wrong in the same order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FaultsConfig {
    /// Start of the pseudo-random sequence; it also shapes the ripple of the
    /// measured voltage and current.
    pub seed: u64,
    /// Probability that a boot (power on or reset) does not reach the login:
    /// the board stays silent, its memory fails, or the kernel panics.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub does_not_boot: f64,
    /// Probability that a byte sent by the board arrives with a wrong bit.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub garbles_serial: f64,
    /// Probability that writing an image to the storage fails part way.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub flash_fails: f64,
}

/// A password that is read and written as plain text but never shown by `{:?}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Password(String);

/// Why a [`BoardConfig`] cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{key}` is {value}: use a value {expected}")]
pub struct ConfigError {
    /// The key, dotted from the driver's configuration.
    pub key: &'static str,
    /// What it was set to.
    pub value: String,
    /// The values that can be used, as they read after "use a value".
    pub expected: &'static str,
}

// === impl BoardConfig ===

impl Default for BoardConfig {
    fn default() -> Self {
        Self {
            speed: 1.0,
            autoboot_seconds: 3,
            hostname: "virtual-board".to_owned(),
            root_password: None,
            storage_size: 1 << 30,
            supply_volts: 5.0,
            faults: FaultsConfig::default(),
        }
    }
}

impl BoardConfig {
    /// Checks the ranges that the types cannot express.
    ///
    /// # Errors
    /// The first key that is out of range, with what it may be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |key, value: &dyn fmt::Display, expected| {
            Err(ConfigError {
                key,
                value: value.to_string(),
                expected,
            })
        };
        if !(0.01..=1e6).contains(&self.speed) {
            return refuse("speed", &self.speed, "from 0.01 to 1000000");
        }
        if !(-2..=999).contains(&self.autoboot_seconds) {
            return refuse("autoboot_seconds", &self.autoboot_seconds, "from -2 to 999");
        }
        if !is_hostname(&self.hostname) {
            let expected = "of 1 to 32 letters, digits, `-` and `.`";
            return refuse("hostname", &format_args!("`{}`", self.hostname), expected);
        }
        if self.storage_size < 512 {
            return refuse(
                "storage_size",
                &self.storage_size,
                "of at least 512 (bytes)",
            );
        }
        if !(0.0..=60.0).contains(&self.supply_volts) {
            return refuse("supply_volts", &self.supply_volts, "from 0 to 60 (volts)");
        }
        for (key, value) in [
            ("faults.does_not_boot", self.faults.does_not_boot),
            ("faults.garbles_serial", self.faults.garbles_serial),
            ("faults.flash_fails", self.faults.flash_fails),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return refuse(key, &value, "from 0 (never) to 1 (always)");
            }
        }
        Ok(())
    }

    /// How long something that takes `real` on a real board takes on this one.
    pub(super) fn scaled(&self, real: Duration) -> Duration {
        Duration::try_from_secs_f64(real.as_secs_f64() / self.speed).unwrap_or(Duration::MAX)
    }
}

/// The names that fit an image header and a shell prompt.
pub(super) fn is_hostname(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    (1..=32).contains(&name.len()) && name.bytes().all(allowed)
}

// === impl Password ===

impl Password {
    /// Wraps a password.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    /// Whether `typed` is this password.
    pub fn matches(&self, typed: &str) -> bool {
        self.0 == typed
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_mapping_is_a_valid_board() {
        let config: BoardConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(config, BoardConfig::default());
        config.validate().unwrap();
    }

    #[test]
    fn what_is_out_of_range_is_named_with_what_fits() {
        let faults = FaultsConfig {
            flash_fails: f64::NAN,
            ..Default::default()
        };
        let refused = [
            BoardConfig {
                speed: 0.0,
                ..Default::default()
            },
            BoardConfig {
                autoboot_seconds: -3,
                ..Default::default()
            },
            BoardConfig {
                hostname: "a b".to_owned(),
                ..Default::default()
            },
            BoardConfig {
                storage_size: 0,
                ..Default::default()
            },
            BoardConfig {
                supply_volts: -1.0,
                ..Default::default()
            },
            BoardConfig {
                faults,
                ..Default::default()
            },
        ];
        let messages: Vec<String> = refused
            .iter()
            .map(|config| config.validate().unwrap_err().to_string())
            .collect();
        insta::assert_snapshot!(messages.join("\n"), @r"
        `speed` is 0: use a value from 0.01 to 1000000
        `autoboot_seconds` is -3: use a value from -2 to 999
        `hostname` is `a b`: use a value of 1 to 32 letters, digits, `-` and `.`
        `storage_size` is 0: use a value of at least 512 (bytes)
        `supply_volts` is -1: use a value from 0 to 60 (volts)
        `faults.flash_fails` is NaN: use a value from 0 (never) to 1 (always)
        ");
    }

    #[test]
    fn the_password_is_not_shown() {
        let config = BoardConfig {
            root_password: Some(Password::new("s3cret")),
            ..Default::default()
        };
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
