//! Tokens, keys and certificates: issuing, checking, keeping. No sockets, no tasks, no gRPC; the time is passed in.
//!
//! Start reading at [`IdentityVerifier`] for what callers show to the controller, at [`TunnelVerifier`] for what
//! peers show to a router, at [`metadata`] for how a call's headers become a presented token, and at [`pki`] for
//! the authority of our own and the certificates of servers.
//!
//! Tokens are signed and verified with ring directly. Issuing ES256 and HS256 and verifying three MACs and one
//! signature is less code than the back end that a JWT library would need from us to stay on ring, and leaves no
//! algorithm to be chosen by the token that the verifier did not name.

mod error;
mod fuzz;
mod identity;
mod identity_keys;
mod jws;
mod legacy;
pub mod metadata;
mod peek;
pub mod pki;
mod places;
pub mod private_file;
mod subject;
mod tunnel;
mod tunnel_keys;
mod used;

pub use error::TokenError;
pub use fuzz::{fuzz_certificate, fuzz_token};
pub use identity::{
    CLOCK_LEEWAY_SECONDS, IDENTITY_AUDIENCE, IDENTITY_ISSUER, IDENTITY_LIFETIME, IdentityClaims,
    IdentityIssuer, IdentityVerifier, IssuedToken,
};
pub use identity_keys::{IdentityKeys, KeyGenerationError};
pub use jmp_types::Secret;
pub use jws::MAX_TOKEN_BYTES;
pub use legacy::LegacyKeyError;
pub use metadata::fuzz_metadata;
pub use peek::{Peeked, peek, peek_expiry};
pub use places::{Place, Places, peer_network};
pub use private_file::FileError;
pub use subject::{IdentityKind, Subject, SubjectError};
pub use tunnel::{
    TUNNEL_AUDIENCE, TUNNEL_ISSUER, TUNNEL_LIFETIME, TunnelClaims, TunnelEnds, TunnelIssuer,
    TunnelRole, TunnelTokens, TunnelVerifier,
};
pub use tunnel_keys::{TunnelKeyError, TunnelKeys};
pub use used::{UseError, UsedTokens};
