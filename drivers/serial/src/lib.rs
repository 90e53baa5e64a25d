//! Serial ports
