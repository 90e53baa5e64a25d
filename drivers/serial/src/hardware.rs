//! Which serial devices this computer has, and what they are.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use serial2_tokio::SerialPort;

/// Names offered when a device is missing.
const NEAR_NAMES: usize = 5;
/// Parents of a device looked at for the USB device it belongs to.
const SYSFS_DEPTH: usize = 8;

/// One serial device, described in the words that pyserial's port listing uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialDevice {
    /// Path to open, such as `/dev/ttyUSB0`.
    pub path: PathBuf,
    /// Product (and interface) of a USB device, else the name of the device.
    pub description: String,
    /// `USB VID:PID=0403:6001 SER=… LOCATION=…` for a USB device, else `n/a`.
    pub hardware_id: String,
}

impl SerialDevice {
    /// Whether `pattern` occurs in the path, the description or the hardware id.
    pub fn matches(&self, pattern: &Regex) -> bool {
        pattern.is_match(&self.path.to_string_lossy())
            || pattern.is_match(&self.description)
            || pattern.is_match(&self.hardware_id)
    }
}

/// The serial devices of this computer, sorted by path. Empty where they cannot be listed.
pub fn serial_devices() -> Vec<SerialDevice> {
    let mut paths = SerialPort::available_ports().unwrap_or_default();
    paths.sort();
    paths
        .into_iter()
        .map(|path| describe(Path::new("/sys/class/tty"), path))
        .collect()
}

/// Describes the device at `path` from the folder of all terminals in sysfs.
fn describe(terminals: &Path, path: PathBuf) -> SerialDevice {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut device = SerialDevice {
        description: name.clone(),
        hardware_id: "n/a".to_owned(),
        path,
    };
    let Ok(parent) = fs::canonicalize(terminals.join(&name).join("device")) else {
        return device;
    };
    let Some(usb) = parent
        .ancestors()
        .take(SYSFS_DEPTH)
        .find(|folder| folder.join("idVendor").exists())
    else {
        return device;
    };
    let interface = parent
        .ancestors()
        .take_while(|folder| *folder != usb)
        .find_map(|folder| attribute(folder, "interface"));
    if let Some(product) = attribute(usb, "product") {
        device.description = match interface {
            Some(interface) => format!("{product} - {interface}"),
            None => product,
        };
    }
    let vendor = attribute(usb, "idVendor")
        .unwrap_or_default()
        .to_uppercase();
    let product = attribute(usb, "idProduct")
        .unwrap_or_default()
        .to_uppercase();
    device.hardware_id = format!("USB VID:PID={vendor}:{product}");
    if let Some(serial) = attribute(usb, "serial") {
        device.hardware_id += &format!(" SER={serial}");
    }
    if let Some(location) = usb.file_name() {
        device.hardware_id += &format!(" LOCATION={}", location.to_string_lossy());
    }
    device
}

fn attribute(folder: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(folder.join(name)).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Existing devices for the message about a missing one, the most similar first, stable names before kernel names.
pub(crate) fn near_names(missing: &Path) -> Vec<String> {
    let mut names: Vec<PathBuf> = fs::read_dir("/dev/serial/by-id")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    names.sort();
    names.extend(serial_devices().into_iter().map(|device| device.path));
    most_similar(missing, names)
}

fn most_similar(missing: &Path, names: Vec<PathBuf>) -> Vec<String> {
    let missing = missing.to_string_lossy();
    let mut rated: Vec<(f64, String)> = names
        .into_iter()
        .map(|name| {
            let name = name.to_string_lossy().into_owned();
            (
                strsim::normalized_damerau_levenshtein(&missing, &name),
                name,
            )
        })
        .collect();
    rated.sort_by(|(left, _), (right, _)| right.total_cmp(left));
    rated
        .into_iter()
        .take(NEAR_NAMES)
        .map(|(_, name)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usb_adapter_is_described() {
        let root = tempfile::tempdir().unwrap();
        let usb = root.path().join("devices/1-1.2");
        let port = usb.join("1-1.2:1.0/ttyUSB0");
        let terminal = root.path().join("tty/ttyUSB0");
        fs::create_dir_all(&port).unwrap();
        fs::create_dir_all(&terminal).unwrap();
        std::os::unix::fs::symlink(&port, terminal.join("device")).unwrap();
        for (name, value) in [
            ("idVendor", "0403\n"),
            ("idProduct", "6a1b\n"),
            ("serial", "A6\n"),
            ("product", "UART\n"),
        ] {
            fs::write(usb.join(name), value).unwrap();
        }
        fs::write(usb.join("1-1.2:1.0/interface"), "Port A\n").unwrap();
        let device = describe(&root.path().join("tty"), "/dev/ttyUSB0".into());
        assert_eq!(device.description, "UART - Port A");
        assert_eq!(
            device.hardware_id,
            "USB VID:PID=0403:6A1B SER=A6 LOCATION=1-1.2"
        );
        for (pattern, expected) in [
            ("ttyUSB", true),
            ("0403:6A1B", true),
            ("Port A", true),
            ("SER=B", false),
        ] {
            assert_eq!(
                device.matches(&Regex::new(pattern).unwrap()),
                expected,
                "{pattern}"
            );
        }
    }

    #[test]
    fn other_devices_are_their_name() {
        let root = tempfile::tempdir().unwrap();
        let device = describe(root.path(), "/dev/ttyS0".into());
        assert_eq!(
            (device.description.as_str(), device.hardware_id.as_str()),
            ("ttyS0", "n/a")
        );
    }

    #[test]
    fn the_most_similar_name_comes_first() {
        let names = ["/dev/ttyS0", "/dev/ttyUSB1", "/dev/ttyACM0"]
            .map(PathBuf::from)
            .to_vec();
        assert_eq!(
            most_similar(Path::new("/dev/ttyUSB0"), names)[0],
            "/dev/ttyUSB1"
        );
    }
}
