//! Shell commands as driver methods
