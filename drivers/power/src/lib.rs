//! Power: mock drivers and client
