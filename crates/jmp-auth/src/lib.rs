//! Tokens, keys and certificates: issuing, checking, keeping.
