//! Pure exporter status machine and hook policy
