//! What the board draws from its supply.

use std::time::Duration;

use super::random::SplitMix64;

/// One reading of the supply.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Measurement {
    /// Voltage in volts.
    pub volts: f64,
    /// Current in amperes.
    pub amps: f64,
}

/// What the board is doing, as far as its supply can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    Off,
    Rom,
    UBoot,
    KernelBoot,
    Idle,
    Busy,
    /// Halted by the system, but the supply is still on.
    Halted,
    /// Stuck in an endless loop.
    Hung,
}

/// The ripple changes this often; readings in between are equal.
const RIPPLE_STEP_MILLISECONDS: u128 = 10;
/// Ohms of the cable: the voltage sags under load.
const CABLE_RESISTANCE: f64 = 0.08;

impl Activity {
    /// Mean current of a small single-board computer at 5 V, in amperes.
    fn amps(self) -> f64 {
        match self {
            Self::Off => 0.0,
            Self::Rom => 0.12,
            Self::UBoot => 0.31,
            Self::KernelBoot => 0.58,
            Self::Idle => 0.24,
            Self::Busy => 0.66,
            Self::Halted => 0.03,
            Self::Hung => 0.40,
        }
    }
}

/// The reading at `now`: a function of its arguments alone, so that asking
/// often changes nothing.
pub(super) fn measure(
    activity: Activity,
    supply_volts: f64,
    seed: u64,
    now: Duration,
) -> Measurement {
    if activity == Activity::Off {
        return Measurement::default();
    }
    let slot = (now.as_millis() / RIPPLE_STEP_MILLISECONDS) as u64;
    let mut random = SplitMix64::for_purpose(seed ^ slot.rotate_left(32), 4);
    let mut ripple = |part: f64| 1.0 + part * (2.0 * random.next_unit() - 1.0);
    let amps = activity.amps() * ripple(0.02);
    let volts = (supply_volts * ripple(0.002) - amps * CABLE_RESISTANCE).max(0.0);
    Measurement { volts, amps }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_is_exactly_nothing_and_the_rest_is_ordered() {
        let at = |activity| measure(activity, 5.0, 1, Duration::from_secs(3));
        assert_eq!(
            at(Activity::Off),
            Measurement {
                volts: 0.0,
                amps: 0.0
            }
        );
        let rising = [
            Activity::Halted,
            Activity::Rom,
            Activity::Idle,
            Activity::UBoot,
            Activity::KernelBoot,
            Activity::Busy,
        ];
        for pair in rising.windows(2) {
            assert!(at(pair[0]).amps < at(pair[1]).amps, "{pair:?}");
        }
        assert!((4.8..5.05).contains(&at(Activity::Busy).volts));
    }

    #[test]
    fn the_ripple_is_small_seeded_and_moves() {
        let at = |seed, milliseconds| {
            measure(
                Activity::Idle,
                5.0,
                seed,
                Duration::from_millis(milliseconds),
            )
        };
        assert_eq!(at(1, 100), at(1, 109));
        assert_ne!(at(1, 100), at(1, 110));
        assert_ne!(at(1, 100), at(2, 100));
        assert!((0..1000).all(|index| (0.23..0.25).contains(&at(3, index * 10).amps)));
    }
}
