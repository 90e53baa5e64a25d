//! Files on disk and what finally counts, in a directory of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jmp_config::{
    ClientConfig, Error, ExporterConfig, Flags, Metadata, Origin, Paths, Place, Secret, Store,
};
use jmp_types::Alias;
use tempfile::TempDir;

struct Lab {
    directory: TempDir,
    store: Store,
}

fn lab() -> Lab {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(Paths {
        user: directory.path().join("user"),
        system_exporters: directory.path().join("etc"),
    });
    Lab { directory, store }
}

impl Lab {
    fn write(&self, path: &str, text: &str) {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn message(&self, error: &Error) -> String {
        error
            .to_string()
            .replace(&self.directory.path().display().to_string(), "LAB")
    }
}

fn alias(name: &str) -> Alias {
    Alias::new(name).unwrap()
}

fn client(endpoint: &str) -> ClientConfig {
    ClientConfig {
        metadata: Metadata {
            name: Some("me".into()),
            namespace: Some("lab".into()),
        },
        endpoint: Some(endpoint.into()),
        token: Some(Secret::new("c2VjcmV0")),
        ..ClientConfig::default()
    }
}

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

const EXPORTER: &str = "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {name: e, namespace: n}\nexport: {}\n";

#[test]
fn reading_creates_nothing() {
    let lab = lab();
    assert!(lab.store.list_clients().unwrap().is_empty());
    assert!(lab.store.list_exporters().unwrap().is_empty());
    assert_eq!(lab.store.current_client().unwrap(), None);
    let nothing = environment(&[]);
    let effective = lab
        .store
        .effective_client(&nothing, &Flags::default())
        .unwrap();
    assert!(effective.file.is_none());
    assert!(!lab.directory.path().join("user").exists());
}

#[test]
fn a_client_is_created_used_and_deleted() {
    let lab = lab();
    let (one, two) = (alias("one"), alias("two"));
    let path = lab.store.create_client(&one, &client("a:1")).unwrap();
    #[cfg(unix)]
    {
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }
    assert_eq!(lab.store.current_client().unwrap(), Some(one.clone()));
    assert!(matches!(
        lab.store.create_client(&one, &client("a:1")),
        Err(Error::Exists { .. })
    ));
    lab.store.create_client(&two, &client("b:2")).unwrap();
    assert_eq!(lab.store.current_client().unwrap(), Some(one.clone()));
    lab.store.use_client(Some(&two)).unwrap();
    let loaded = lab.store.load_client("two").unwrap();
    assert_eq!(loaded.config.to_json(), client("b:2").to_json());
    let deleted = lab.store.delete_client(&two).unwrap();
    assert_eq!(deleted.current, Some(one.clone()));
    let deleted = lab.store.delete_client(&one).unwrap();
    assert_eq!(deleted.current, None);
    assert_eq!(lab.store.current_client().unwrap(), None);
}

#[test]
fn a_saved_client_reads_well() {
    let lab = lab();
    let mut config = client("yes");
    config.metadata.name = Some("007".into());
    config.token = Some(Secret::new("x".repeat(300)));
    config.drivers.allow = Some(vec!["*".into(), "on".into()]);
    config.leases.retry_timeout = Some(std::time::Duration::from_millis(1500));
    let path = lab.store.save_client(&alias("a"), &config).unwrap();
    let text = fs::read_to_string(path).unwrap();
    insta::assert_snapshot!(text.replace(&"x".repeat(300), "X300"));
    let again = lab.store.load_client("a").unwrap();
    assert_eq!(again.config.to_json(), config.to_json());
    assert!(again.warnings.is_empty());
    assert!(
        !format!("{again:?}").contains("xxx"),
        "secrets stay out of Debug"
    );
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_stays_one() {
    let lab = lab();
    lab.write("elsewhere/a.yaml", "");
    fs::create_dir_all(lab.store.paths().clients()).unwrap();
    let link = lab.store.client_path(&alias("a"));
    std::os::unix::fs::symlink(lab.directory.path().join("elsewhere/a.yaml"), &link).unwrap();
    lab.store.save_client(&alias("a"), &client("a:1")).unwrap();
    assert!(
        fs::symlink_metadata(&link)
            .unwrap()
            .file_type()
            .is_symlink()
    );
    let loaded = lab.store.load_client("a").unwrap();
    assert_eq!(loaded.config.to_json(), client("a:1").to_json());
}

#[test]
fn a_misspelt_name_is_answered_with_the_near_ones() {
    let lab = lab();
    let error = lab.store.load_exporter("example").unwrap_err();
    insta::assert_snapshot!("no_exporter_at_all", lab.message(&error));
    lab.write("etc/example-local.yaml", EXPORTER);
    lab.write("user/exporters/other.yaml", EXPORTER);
    lab.write("user/exporters/README.md", "not yaml");
    let error = lab.store.load_exporter("example-locla").unwrap_err();
    insta::assert_snapshot!("misspelt_exporter", lab.message(&error));
    assert!(matches!(
        lab.store.load_exporter("../etc/example-local"),
        Err(Error::Alias(_))
    ));
}

#[test]
fn the_users_exporter_hides_the_systems() {
    let lab = lab();
    lab.write("etc/a.yaml", EXPORTER);
    lab.write("etc/b.yaml", EXPORTER);
    lab.write("user/exporters/a.yaml", EXPORTER);
    lab.write("user/exporters/c.yaml", "export: [");
    let listed: Vec<(String, Place, bool)> = lab
        .store
        .list_exporters()
        .unwrap()
        .into_iter()
        .map(|entry| (entry.alias.to_string(), entry.place, entry.result.is_ok()))
        .collect();
    let expected = [
        ("a".to_owned(), Place::User, true),
        ("c".to_owned(), Place::User, false),
        ("b".to_owned(), Place::System, true),
    ];
    assert_eq!(listed, expected);
    let deleted = lab.store.delete_exporter(&alias("a")).unwrap();
    assert!(deleted.remaining.is_some());
    assert!(matches!(
        lab.store.delete_exporter(&alias("a")),
        Err(Error::SystemFile { .. })
    ));
    let config = ExporterConfig::default();
    assert!(lab.store.create_exporter(&alias("b"), &config).is_ok());
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let lab = lab();
    let path = lab
        .store
        .create_client(&alias("a"), &client("file:1"))
        .unwrap();
    let mut flags = Flags::default();
    let mut variables = environment(&[]);
    let get = |variables: &BTreeMap<String, String>, flags: &Flags| {
        lab.store.effective_client(variables, flags).unwrap()
    };

    let effective = get(&variables, &flags);
    assert_eq!(effective.endpoint.value.as_deref(), Some("file:1"));
    let line = Some(6);
    assert_eq!(effective.endpoint.origin, Origin::UserFile { path, line });
    assert_eq!(effective.retry_timeout.origin, Origin::Default);

    variables.insert("JMP_ENDPOINT".into(), "environment:1".into());
    variables.insert("JMP_TOKEN".into(), "other".into());
    variables.insert("JMP_NAME".into(), String::new());
    variables.insert("JMP_DRIVERS_ALLOW".into(), "a.*, UNSAFE".into());
    variables.insert("JMP_RETRY_TIMEOUT".into(), "0".into());
    let effective = get(&variables, &flags);
    assert_eq!(effective.endpoint.value.as_deref(), Some("environment:1"));
    assert_eq!(
        effective.endpoint.origin,
        Origin::Environment("JMP_ENDPOINT")
    );
    assert_eq!(
        effective.name.value.as_deref(),
        Some("me"),
        "empty is absent"
    );
    assert_eq!(effective.drivers_allow.value, ["a.*", "UNSAFE"]);
    assert!(effective.drivers_unsafe.value);
    assert!(effective.retry_timeout.value.is_zero());

    flags.endpoint = Some("flag:1".into());
    let effective = get(&variables, &flags);
    assert_eq!(effective.endpoint.origin, Origin::Flag("--endpoint"));
    let shown = format!("{:?}", effective.rows());
    assert!(
        shown.contains("flag:1") && shown.contains("[redacted]"),
        "{shown}"
    );
    assert!(
        !shown.contains("c2VjcmV0") && !shown.contains("other"),
        "{shown}"
    );

    let path = lab.store.client_path(&alias("a"));
    let mut open = client("file:1");
    open.drivers.unsafe_all = Some(true);
    lab.store.save_client_file(&path, &open).unwrap();
    variables.insert("JMP_DRIVERS_ALLOW".into(), "a.*".into());
    assert!(
        !get(&variables, &flags).drivers_unsafe.value,
        "the list limits"
    );
    variables.remove("JMP_DRIVERS_ALLOW");
    assert!(get(&variables, &flags).drivers_unsafe.value);

    variables.insert("JMP_DIAL_TIMEOUT".into(), "soon".into());
    assert!(matches!(
        lab.store.effective_client(&variables, &flags),
        Err(Error::Variable {
            variable: "JMP_DIAL_TIMEOUT",
            ..
        })
    ));
}

#[test]
fn name_and_namespace_in_the_environment_replace_the_current_client() {
    let lab = lab();
    lab.store
        .create_client(&alias("a"), &client("file:1"))
        .unwrap();
    lab.store
        .create_client(&alias("b"), &client("file:2"))
        .unwrap();
    let mut variables = environment(&[("JMP_NAME", "ci"), ("JMP_NAMESPACE", "lab")]);
    let flags = Flags::default();
    let effective = lab.store.effective_client(&variables, &flags).unwrap();
    assert!(effective.file.is_none());
    assert_eq!(effective.endpoint.value, None);
    assert_eq!(effective.name.value.as_deref(), Some("ci"));

    // Naming a configuration is more than the rule.
    variables.insert("JMP_CLIENT".into(), "b".into());
    let effective = lab.store.effective_client(&variables, &flags).unwrap();
    assert_eq!(effective.endpoint.value.as_deref(), Some("file:2"));
    assert_eq!(effective.name.value.as_deref(), Some("ci"));
}

#[test]
fn exporters_take_identity_from_the_environment() {
    let lab = lab();
    lab.write("etc/a.yaml", EXPORTER);
    let flags = Flags {
        alias: Some("a".into()),
        ..Flags::default()
    };
    let variables = environment(&[("JMP_ENDPOINT", "x:1"), ("JMP_GRPC_INSECURE", "1")]);
    let effective = lab
        .store
        .effective_exporter(&variables, &flags)
        .unwrap()
        .unwrap();
    assert_eq!(effective.endpoint.value.as_deref(), Some("x:1"));
    assert!(effective.tls_insecure.value);
    assert!(matches!(
        effective.name.origin,
        Origin::SystemFile { line: Some(3), .. }
    ));
    let none = lab
        .store
        .effective_exporter(&variables, &Flags::default())
        .unwrap();
    assert!(none.is_none());
}

#[test]
fn yaml_1_1_leniency() {
    let lab = lab();
    lab.write(
        "etc/a.yaml",
        "kind: Exporter\nexitOnLeaseEnd: on\nmetadata: {name: 007, namespace: ~}\nbase: &base {port: \"22\", flag: yes}\nexport:\n  on:\n    type: a.B\n    methods_description: {on: Switch it on, off: no}\n    config:\n      <<: *base\n      port: 23\n",
    );
    let loaded = lab.store.load_exporter("a").unwrap();
    assert!(loaded.config.exit_on_lease_end);
    assert_eq!(loaded.config.metadata.name.as_deref(), Some("007"));
    insta::assert_snapshot!(serde_json::to_string_pretty(&loaded.config.export.to_json()).unwrap());
}

#[test]
fn a_saved_exporter_reads_well() {
    let lab = lab();
    lab.write(
        "etc/a.yaml",
        "apiVersion: jumpstarter.dev/v1alpha1\nkind: Exporter\ntoken: dG9rZW4=\nendpoint: \"\"\nmetadata: {namespace: n, name: e}\ntls: {insecure: false, ca: \"\"}\ngrpcConfig: {grpc.keepalive_time_ms: 20000}\nfailure_detection: {max_rapid_failures: 3}\nexit_on_lease_end: no\nhooks:\n  beforeLease:\n    script: |\n      echo one\n      echo two\n    onFailure: endLease\n    timeout: 120\nexport:\n  b:\n    ref: a.p\n  a:\n    children:\n      p:\n        description: Power\n        config: {port: \"22\", slot: 1}\n        type: jumpstarter_driver_power.driver.MockPower\n",
    );
    let loaded = lab.store.load_exporter("a").unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let path = lab
        .store
        .save_exporter(&alias("a"), &loaded.config)
        .unwrap();
    insta::assert_snapshot!(fs::read_to_string(path).unwrap());
    assert_eq!(lab.store.load_exporter("a").unwrap().place, Place::User);
}
