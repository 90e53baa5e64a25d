//! The first generator of Go's `math/rand`: additive lagged Fibonacci, x(n) = x(n-607) + x(n-273) modulo 2^64.
//!
//! A seed is expanded by a small linear generator and then combined with 607 constants, which are the state of the
//! same generator, seeded with 1, after 7.8e12 steps. The table is not copied here but computed: a linear recurrence
//! can be advanced by any number of steps with powers of x modulo its characteristic polynomial.

use std::sync::OnceLock;

const LONG: usize = 607;
const SHORT: usize = 273;
/// Steps between the seed 1 and the table.
const STEPS_TO_TABLE: u64 = 7_800_000_000_000;
/// Output that precedes the feed of a new state goes to this place, later ones before it.
const FIRST_PLACE: usize = LONG - SHORT - 1;

type State = Vec<u64>;

static TABLE: OnceLock<State> = OnceLock::new();

pub(super) struct Generator {
    state: State,
    feed: usize,
    tap: usize,
}

// === impl Generator ===

impl Generator {
    pub(super) fn new(seed: i64) -> Self {
        let state = expanded(seed, 40, 20)
            .iter()
            .zip(TABLE.get_or_init(table))
            .map(|(seeded, constant)| seeded ^ constant)
            .collect();
        Self {
            state,
            feed: LONG - SHORT,
            tap: 0,
        }
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        let before = |place: usize| (place + LONG - 1) % LONG;
        self.feed = before(self.feed);
        self.tap = before(self.tap);
        self.state[self.feed] = self.state[self.feed].wrapping_add(self.state[self.tap]);
        self.state[self.feed]
    }
}

/// Fills a state from a seed. The shifts differ between seeding and the making of the table.
fn expanded(seed: i64, high: u32, middle: u32) -> State {
    let mut value = seed.rem_euclid(0x7fff_ffff).unsigned_abs();
    if value == 0 {
        value = 89_482_311;
    }
    let mut next = || {
        value = value * 48_271 % 0x7fff_ffff;
        value
    };
    for _ in 0..20 {
        next();
    }
    (0..LONG)
        .map(|_| (next() << high) ^ (next() << middle) ^ next())
        .collect()
}

fn table() -> State {
    let place = |step: usize| (FIRST_PLACE + LONG * 2 - step % LONG) % LONG;
    let start = expanded(1, 20, 10);
    // The recurrence from the oldest number of the state on, long enough for one multiplication by a power.
    let mut numbers: Vec<u64> = (0..LONG).map(|step| start[place(step)]).collect();
    for step in LONG..2 * LONG {
        numbers.push(numbers[step - LONG].wrapping_add(numbers[step - SHORT]));
    }
    let power = power_of_x(STEPS_TO_TABLE);
    let offset = usize::try_from(STEPS_TO_TABLE % LONG as u64).unwrap_or(0);
    let mut table = vec![0; LONG];
    for step in 0..LONG {
        table[place(offset + step)] = power
            .iter()
            .zip(&numbers[step..])
            .fold(0_u64, |sum, (factor, number)| {
                sum.wrapping_add(factor.wrapping_mul(*number))
            });
    }
    table
}

/// x^exponent modulo x^607 - x^334 - 1: the weights that give the number `exponent` steps ahead.
fn power_of_x(exponent: u64) -> Vec<u64> {
    let mut power = vec![0_u64; LONG];
    power[0] = 1;
    for bit in (0..u64::BITS - exponent.leading_zeros()).rev() {
        let mut product = vec![0_u64; 2 * LONG];
        let shift = usize::from(exponent >> bit & 1 == 1);
        for (i, a) in power.iter().enumerate() {
            for (place, b) in product[i + shift..].iter_mut().zip(&power) {
                *place = place.wrapping_add(a.wrapping_mul(*b));
            }
        }
        for place in (LONG..2 * LONG).rev() {
            let excess = product[place];
            for lower in [place - SHORT, place - LONG] {
                product[lower] = product[lower].wrapping_add(excess);
            }
        }
        product.truncate(LONG);
        power = product;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::{Generator, LONG, SHORT, expanded, power_of_x};

    #[test]
    fn powers_advance_like_single_steps() {
        // State that the generator reaches by steps, read as the weights of the first numbers.
        let mut numbers = expanded(5, 40, 20);
        for step in LONG..3000 {
            numbers.push(numbers[step - LONG].wrapping_add(numbers[step - SHORT]));
        }
        for steps in [0, 1, 606, 607, 1500, 2999] {
            let power = power_of_x(steps);
            let found = power
                .iter()
                .zip(&numbers)
                .fold(0_u64, |sum, (a, b)| sum.wrapping_add(a.wrapping_mul(*b)));
            assert_eq!(found, numbers[usize::try_from(steps).unwrap()], "{steps}");
        }
    }

    #[test]
    fn the_seed_one_gives_the_number_that_everybody_knows() {
        // The first `rand.Int()` of unseeded Go programs of old.
        let number = Generator::new(1).next_u64() & (u64::MAX >> 1);
        assert_eq!(number, 5_577_006_791_947_779_410);
    }
}
