//! Configuration files, environment, precedence and errors that point
