//! Connect to exporters, the device tree, dynamic and typed clients
