//! Each token of a tunnel is good for one use.

use std::collections::{BTreeSet, HashMap};

use jmp_types::Timestamp;

use crate::{CLOCK_LEEWAY_SECONDS, TunnelClaims};

/// How long a token is remembered after it stops being accepted, in seconds: longer than a clock is ever corrected
/// by in one step while streams go on.
const MEMORY_SECONDS: i64 = 10 * 60;

/// Remembers which tunnel tokens were used, until they end. Bounded.
///
/// It never forgets a token that is still good in order to make room: an attacker with many tokens would use that.
#[derive(Debug)]
pub struct UsedTokens {
    capacity: usize,
    uses: HashMap<String, Use>,
    /// By when they can be forgotten, in seconds since 1970.
    endings: BTreeSet<(i64, String)>,
}

#[derive(Debug)]
struct Use {
    count: u8,
}

/// Why a token may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UseError {
    /// It was used before.
    #[error("the token was used before; every tunnel needs a token of its own")]
    AlreadyUsed,
    /// Too many good tokens are remembered.
    #[error("the router remembers as many used tokens as it may; try again later")]
    Full,
}

// === impl UsedTokens ===

impl UsedTokens {
    /// Remembers up to `capacity` tokens (some 200 bytes each).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            uses: HashMap::new(),
            endings: BTreeSet::new(),
        }
    }

    /// Notes a use of a verified token. `now` is the issuer's time ([`crate::TunnelVerifier::issuer_time`]).
    ///
    /// Tokens of ours are good once; those of shipped controllers twice, since both ends show the same one.
    ///
    /// # Errors
    ///
    /// If the token was used up, or there is no room to remember it.
    pub fn admit(&mut self, claims: &TunnelClaims, now: Timestamp) -> Result<(), UseError> {
        self.forget(now);
        let allowed = if claims.role.is_some() { 1 } else { 2 };
        // Those without an identifier are told apart by their tunnel.
        let id = claims.token_id.as_ref().unwrap_or(&claims.stream);
        if let Some(earlier) = self.uses.get_mut(id) {
            if earlier.count >= allowed {
                return Err(UseError::AlreadyUsed);
            }
            earlier.count += 1;
            return Ok(());
        }
        if self.uses.len() >= self.capacity {
            return Err(UseError::Full);
        }
        let until = claims
            .expires_at
            .as_second()
            .saturating_add(CLOCK_LEEWAY_SECONDS + MEMORY_SECONDS);
        self.uses.insert(id.clone(), Use { count: 1 });
        self.endings.insert((until, id.clone()));
        Ok(())
    }

    /// How many tokens are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.uses.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.uses.is_empty()
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some((until, _)) = self.endings.first()
            && *until <= now.as_second()
            && let Some((_, id)) = self.endings.pop_first()
        {
            self.uses.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use jmp_types::Timestamp;

    use super::{UseError, UsedTokens};
    use crate::{TunnelClaims, TunnelRole};

    fn claims(id: &str, role: Option<TunnelRole>, expires: i64) -> TunnelClaims {
        TunnelClaims {
            stream: "stream".into(),
            role,
            lease: None,
            owner: None,
            token_id: Some(id.into()),
            issued_at: None,
            expires_at: Timestamp::from_second(expires).unwrap(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn one_use_of_ours_and_two_of_theirs() {
        let mut used = UsedTokens::new(10);
        let (ours, theirs) = (
            claims("a", Some(TunnelRole::Client), 100),
            claims("b", None, 100),
        );
        assert_eq!(used.admit(&ours, at(0)), Ok(()));
        assert_eq!(used.admit(&ours, at(1)), Err(UseError::AlreadyUsed));
        assert_eq!(used.admit(&theirs, at(1)), Ok(()));
        assert_eq!(used.admit(&theirs, at(1)), Ok(()));
        assert_eq!(used.admit(&theirs, at(1)), Err(UseError::AlreadyUsed));
        // Still remembered while a verifier with a late clock would accept it.
        assert_eq!(used.admit(&ours, at(159)), Err(UseError::AlreadyUsed));
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let mut used = UsedTokens::new(2);
        for id in ["a", "b"] {
            assert_eq!(
                used.admit(&claims(id, Some(TunnelRole::Client), 100), at(0)),
                Ok(())
            );
        }
        let more = claims("c", Some(TunnelRole::Client), 9999);
        assert_eq!(used.admit(&more, at(0)), Err(UseError::Full));
        assert_eq!(used.len(), 2);
        assert_eq!(used.admit(&more, at(100 + 60 + 600)), Ok(()));
        assert_eq!(used.len(), 1);
    }
}
