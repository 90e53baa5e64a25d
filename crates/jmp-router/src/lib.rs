//! The relay that joins a client's and an exporter's end of a tunnel.
