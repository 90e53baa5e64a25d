//! Conditions, texts and refusals, one by one.
