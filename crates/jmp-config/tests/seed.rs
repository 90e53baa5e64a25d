//! Every YAML block of the user documentation, as its users typed it.
//!
//! `tests/seed/` holds the blocks in the order of the documentation. Left out are the front matter of the
//! diagrams (`config: theme: base`, which belongs to the diagram tool) and command transcripts.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use jmp_config::{ClientConfig, Diagnostic, Document, ExporterConfig, UserConfig};

/// What a block is.
#[derive(Clone, Copy, PartialEq)]
enum Class {
    User,
    Client,
    Exporter,
    /// One driver's entry without a name: refused with a hint where to put it.
    DriverEntry,
    /// Ours, but no configuration file of this machine: refused as an exporter.
    OtherKind,
    /// Somebody else's file; nothing is claimed about it.
    Foreign(&'static str),
}

use Class::{Client, DriverEntry, Exporter, Foreign, OtherKind, User};

const BLOCKS: [(&str, Class); 46] = [
    ("01-exporters-physical-and-virtual", Exporter),
    ("02-drivers-exporter-file", Exporter),
    ("03-argocd-cluster-role", Foreign("Kubernetes role")),
    ("04-argocd-application", Foreign("Argo CD application")),
    ("05-kind-cluster", Foreign("kind cluster")),
    ("06-user-config", User),
    ("07-client-config", Client),
    ("08-exporter-config", Exporter),
    ("09-loading-order-client", Client),
    ("10-keycloak-authentication", OtherKind),
    ("11-dex-helm-values", Foreign("Helm values")),
    ("12-dex-authentication", OtherKind),
    ("13-authentication-reference", OtherKind),
    ("14-local-mode", Exporter),
    ("15-distributed-mode", Exporter),
    ("16-github-distributed", Foreign("GitHub workflow")),
    ("17-gitlab-distributed", Foreign("GitLab pipeline")),
    ("18-github-local", Foreign("GitHub workflow")),
    ("19-gitlab-local", Foreign("GitLab pipeline")),
    ("20-can", Exporter),
    ("21-isotp-python", Exporter),
    ("22-isotp-socket", Exporter),
    ("23-corellium", Exporter),
    ("24-corellium-exporter", Exporter),
    ("25-corellium-exporter-device", Exporter),
    ("26-dutlink", Exporter),
    ("27-energenie", Exporter),
    ("28-flashers", Exporter),
    ("29-flash-bundle-test", OtherKind),
    ("30-flash-bundle-ti", OtherKind),
    ("31-http", Exporter),
    ("32-network", Exporter),
    ("33-opendal", DriverEntry),
    ("34-power", Exporter),
    ("35-probe-rs", Exporter),
    ("36-pyserial", Exporter),
    ("37-qemu", Exporter),
    ("38-raspberrypi", Exporter),
    ("39-sdwire", DriverEntry),
    ("40-shell", Exporter),
    ("41-snmp", Exporter),
    ("42-tasmota", Exporter),
    ("43-tftp", Exporter),
    ("44-uboot", DriverEntry),
    ("45-ustreamer", DriverEntry),
    ("46-yepkit", Exporter),
];

fn report(shown: &serde_json::Value, warnings: &[Diagnostic]) -> String {
    let mut text = serde_json::to_string_pretty(shown).unwrap();
    for warning in warnings {
        write!(text, "\n\nwarning: {warning}").unwrap();
    }
    text
}

fn load(file: &str, class: Class, bytes: &[u8]) -> Result<String, String> {
    let text = |error: jmp_config::ConfigError| error.to_string();
    let document = Document::parse(file, bytes).map_err(text)?;
    Ok(match class {
        User => {
            let (config, warnings) = UserConfig::from_document(&document).map_err(text)?;
            report(&config.to_json(), &warnings)
        }
        Client => {
            let (config, warnings) = ClientConfig::from_document(&document).map_err(text)?;
            report(&config.shown(), &warnings)
        }
        _ => {
            let (config, warnings) = ExporterConfig::from_document(&document).map_err(text)?;
            report(&config.shown(), &warnings)
        }
    })
}

#[test]
fn every_block_of_the_documentation_loads_or_says_what_to_write() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seed");
    let mut files: Vec<String> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let listed: Vec<String> = BLOCKS
        .iter()
        .map(|(name, _)| format!("{name}.yaml"))
        .collect();
    assert_eq!(files, listed, "every file is classified");

    for (name, class) in BLOCKS {
        let file = format!("{name}.yaml");
        let bytes = fs::read(directory.join(&file)).unwrap();
        let result = load(&file, class, &bytes);
        match class {
            User | Client | Exporter => assert!(result.is_ok(), "{file}: {result:?}"),
            DriverEntry | OtherKind => {
                let message = result.as_ref().unwrap_err();
                assert!(message.contains("help: "), "{message}");
            }
            Foreign(what) => {
                assert!(!what.is_empty());
                continue;
            }
        }
        let text = result.unwrap_or_else(|message| format!("error: {message}"));
        insta::assert_snapshot!(name, text);
    }
}
