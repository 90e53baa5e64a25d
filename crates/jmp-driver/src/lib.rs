//! SDK for driver authors
