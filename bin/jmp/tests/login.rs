//! Logging in at the real controller, tokens, and what becomes of its store.

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Ended, User, program};

/// How long the controller may take to be ready, and to end.
const LIMIT: Duration = Duration::from_secs(30);

/// A controller without a router, with everything below its user's home.
struct Lab {
    process: Child,
    said: Value,
}

// === impl Lab ===

impl Lab {
    fn start(user: &User) -> Self {
        Self::run(&mut controller(user))
    }

    /// Until it says where it is.
    fn run(command: &mut Command) -> Self {
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = process.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            for line in BufReader::new(stdout).lines() {
                text.push_str(&line.unwrap());
                if let Ok(said) = serde_json::from_str::<Value>(&text) {
                    let _ = sender.send(said);
                    return;
                }
            }
        });
        let said = receiver.recv_timeout(LIMIT).unwrap_or_else(|error| {
            process.kill().unwrap();
            panic!("the controller is not ready: {error}")
        });
        Self { process, said }
    }

    fn text(&self, key: &str) -> String {
        self.said[key].as_str().unwrap().to_owned()
    }

    /// SIGTERM, and its end.
    fn stop(mut self) {
        let id = self.process.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(asked.success());
        let deadline = Instant::now() + LIMIT;
        while self.process.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the controller does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn data(user: &User) -> PathBuf {
    user.path("data")
}

fn controller(user: &User) -> Command {
    let mut command = Command::new(program());
    command
        .env_clear()
        .envs(user.environment())
        .env("JMP_DATA_DIRECTORY", data(user))
        .args(["controller", "run", "--no-router", "-o", "json"])
        .args(["--listen", "127.0.0.1:0", "--login-listen", "127.0.0.1:0"])
        .args(["--metrics-listen", "none"]);
    command
}

/// Makes an object and gives its token.
fn token(user: &User, kind: &str, name: &str) -> String {
    let mut arguments = vec!["admin", "create", kind, name, "--nointeractive"];
    if kind == "exporter" {
        arguments.extend(["--label", "board=a"]);
    }
    let made = user.jmp(&arguments);
    assert_eq!(made.code, 0, "{made:?}");
    let rotated = user.jmp(&["admin", "rotate", kind, name]);
    assert_eq!(rotated.code, 0, "{rotated:?}");
    rotated.stdout.trim().to_owned()
}

fn store_command(user: &User, arguments: &[&str]) -> Ended {
    let mut command = user.command();
    command
        .env("JMP_DATA_DIRECTORY", data(user))
        .args(arguments);
    Ended::of(&mut command)
}

#[test]
fn a_token_and_a_pin_are_all_that_it_takes() {
    let admin = User::new();
    let lab = Lab::start(&admin);
    let token = token(&admin, "client", "hello");
    let (login, pin) = (lab.text("login"), lab.text("caPin"));
    let user = User::new();
    let file = user.write("home/token", &format!("{token}\n"));
    let file = file.to_str().unwrap();
    let target = format!("hello@{login}");

    // Not the system's business, and nobody else's.
    let refused = user.jmp(&["login", &target, "--token-file", file, "--unsafe"]);
    refused.fails(1, &["nobody that is trusted", "--ca-pin"]);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let refused = user.jmp(&[
        "login",
        &target,
        "--token-file",
        file,
        "--unsafe",
        "--ca-pin",
        &wrong,
    ]);
    refused.fails(1, &["not the one that the pin names", "do not use -k"]);
    let refused = user.jmp(&["login", &target, "--unsafe", "--ca-pin", "sha256:12"]);
    refused.fails(2, &["64 hexadecimal digits"]);
    // A token that is none, of somebody else, or that was changed on the way.
    let with = |token: &str, more: &[&str]| {
        let mut arguments = vec!["login", &target, "--ca-pin", &pin, "--token", token];
        arguments.extend(more);
        user.jmp(&arguments)
    };
    with("garbage", &["--unsafe"]).fails(1, &["does not accept this token", "nothing was saved"]);
    let forged = format!("{}x", &token[..token.len() - 4]);
    with(&forged, &["--unsafe"]).fails(1, &["does not accept this token"]);
    with(&token, &["--unsafe", "--name", "other"])
        .fails(1, &["client:default:hello", "not for other"]);
    with(&token, &["--unsafe", "--exporter", "hello"]).fails(1, &["--exporter"]);
    with("", &["--unsafe"]).fails(2, &["the token is empty"]);
    with(&token, &[]).fails(2, &["--allow GLOBS or --unsafe is missing"]);
    assert!(!user.path("config/clients/hello.yaml").exists());

    let done = user.jmp(&[
        "login",
        &target,
        "--token-file",
        file,
        "--ca-pin",
        &pin,
        "--unsafe",
    ]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.stdout, "Set 'hello' as the default client.\n");
    assert!(
        done.stderr.contains("as client hello in namespace default"),
        "{done:?}"
    );
    assert!(!done.stderr.contains(&token));
    assert!(
        user.jmp(&["get", "exporters"])
            .succeeds()
            .contains("No resources")
    );

    // The name is in the token, too.
    let named = User::new();
    let done = named.jmp(&[
        "login", &login, "--token", &token, "--ca-pin", &pin, "--unsafe", "-o", "json",
    ]);
    let said: Value = serde_json::from_str(done.succeeds()).unwrap();
    assert_eq!(
        (said["alias"].as_str(), said["name"].as_str()),
        (Some("hello"), Some("hello"))
    );

    // Unseen, which is asked about on a terminal only; the authority is kept from then on.
    let unseen = User::new();
    let refused = unseen.jmp(&["login", &target, "--token", &token, "-k", "--unsafe"]);
    refused.fails(1, &["Aborted!", "--nointeractive"]);
    let done = unseen.jmp(&[
        "login",
        &target,
        "--token",
        &token,
        "-k",
        "--unsafe",
        "--nointeractive",
    ]);
    assert_eq!(done.code, 0, "{done:?}");
    let text = std::fs::read_to_string(unseen.path("config/clients/hello.yaml")).unwrap();
    assert!(
        text.contains("ca: ") && !text.contains("insecure"),
        "{text}"
    );
}

#[test]
fn logging_in_again_replaces_the_token_and_nothing_else() {
    let admin = User::new();
    let lab = Lab::start(&admin);
    let first = token(&admin, "client", "hello");
    let (login, pin) = (lab.text("login"), lab.text("caPin"));
    let target = format!("hello@{login}");
    let user = User::new();
    let done = user.jmp(&[
        "login", &target, "--token", &first, "--ca-pin", &pin, "--unsafe",
    ]);
    assert_eq!(done.code, 0, "{done:?}");
    let path = user.path("config/clients/hello.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("# mine\n{text}")).unwrap();

    // The old one does not work any more, and every command says what to do.
    let second = admin.jmp(&["admin", "rotate", "client", "hello"]).stdout;
    let second = second.trim();
    user.jmp(&["get", "leases"])
        .fails(1, &["revoked", "jmp login"]);
    let done = user.jmp(&["login", "--token", second]);
    assert_eq!(done.code, 0, "{done:?}");
    user.jmp(&["get", "leases"]).succeeds();
    // With the controller's address it is found by the authority that is known already.
    let done = user.jmp(&["login", &target, "--token", second]);
    assert_eq!(done.code, 0, "{done:?}");
    let now = std::fs::read_to_string(&path).unwrap();
    assert_eq!(now, format!("# mine\n{text}").replace(&first, second));
    let other = user.jmp(&["login", "--token", second, "--namespace", "lab"]);
    other.fails(1, &["is for the namespace default, not for lab"]);

    // Tokens of a provider are another matter, and said to be.
    let refused = user.jmp(&["login", &target, "--username", "me", "--password", "secret"]);
    refused.fails(
        2,
        &["--username, --password", "OpenID Connect", "--token-file"],
    );
    assert!(!refused.stderr.contains("secret"));
    user.jmp(&["login", "http://localhost:1", "--token", second])
        .fails(2, &["without TLS"]);
    user.jmp(&["login", "127.0.0.1:1", "--token", second, "--client", "new"])
        .fails(1, &["cannot log in at 127.0.0.1:1", "8086"]);
    let grpc = lab.text("address");
    user.jmp(&[
        "login", &grpc, "--token", second, "--client", "new", "--ca-pin", &pin,
    ])
    .fails(1, &[&grpc]);
}

#[test]
fn tokens_are_shown_and_exchanged() {
    let admin = User::new();
    let lab = Lab::start(&admin);
    let first = token(&admin, "client", "hello");
    let target = format!("hello@{}", lab.text("login"));
    let pin = lab.text("caPin");
    let user = User::new();
    assert!(
        user.jmp(&["auth", "status"])
            .succeeds()
            .starts_with("No token")
    );
    user.jmp(&["auth", "rotate"])
        .fails(1, &["no token", "jmp login"]);
    let done = user.jmp(&[
        "login", &target, "--token", &first, "--ca-pin", &pin, "--unsafe",
    ]);
    assert_eq!(done.code, 0, "{done:?}");

    let shown = user.jmp(&["auth", "status", "--verbose"]);
    for text in [
        "Token expiry: ",
        "Status: Valid (",
        "Subject: client:default:hello:",
        "Refresh token stored: no",
    ] {
        assert!(shown.succeeds().contains(text), "{shown:?}");
    }
    let data: Value =
        serde_json::from_str(user.jmp(&["auth", "status", "-o", "json"]).succeeds()).unwrap();
    assert_eq!(
        (data["token"].as_str(), data["status"].as_str()),
        (Some("jwt"), Some("valid"))
    );

    let rotated = user.jmp(&["auth", "rotate"]);
    assert_eq!(rotated.code, 0, "{rotated:?}");
    assert!(
        rotated.stdout.starts_with("New token, good until "),
        "{rotated:?}"
    );
    let text = std::fs::read_to_string(user.path("config/clients/hello.yaml")).unwrap();
    assert!(!text.contains(&first), "the new token is saved");
    user.jmp(&["get", "leases"]).succeeds();
    user.jmp(&["auth", "refresh"])
        .fails(1, &["no refresh token", "jmp auth rotate"]);
    let mut command = user.command();
    command.env("JMP_TOKEN", &first).args(["auth", "rotate"]);
    Ended::of(&mut command).fails(1, &["JMP_TOKEN", "--client"]);

    // An administrator is told what an administrator can do about it.
    let file = std::fs::read_to_string(admin.path("config/admin.yaml")).unwrap();
    let token = file.lines().find(|line| line.starts_with("token: "));
    let file = user.write(
        "home/admin.yaml",
        &file.replace(token.unwrap(), "token: garbage"),
    );
    let file = file.to_str().unwrap();
    let refused = user.jmp(&["admin", "--admin-config", file, "get", "clients"]);
    refused.fails(1, &["malformed", "administrator's file"]);

    // Whatever a token is, nothing falls over.
    for (token, says) in [
        ("c2VjcmV0", "Opaque token"),
        ("a.b.c", "Opaque token"),
        // {"exp":1000000000,"sub":"client:default:hello:1"}
        (
            "eyJhbGciOiJub25lIn0.eyJleHAiOjEwMDAwMDAwMDAsInN1YiI6ImNsaWVudDpkZWZhdWx0OmhlbGxvOjEifQ.eHh4eA",
            "Status: EXPIRED (",
        ),
    ] {
        let run = |arguments: &[&str]| {
            let mut command = user.command();
            command.env("JMP_TOKEN", token).args(arguments);
            Ended::of(&mut command)
        };
        let shown = run(&["auth", "status"]);
        assert_eq!(shown.code, 0, "{shown:?}");
        assert!(shown.stdout.contains(says), "{shown:?}");
        let shell = run(&["shell", "-l", "board=a", "--", "true"]);
        if says.contains("EXPIRED") {
            shell.fails(1, &["the token has expired", "jmp login"]);
        } else {
            shell.fails(1, &["jmp login"]);
        }
    }
}

#[test]
fn exporters_log_in_as_well() {
    let admin = User::new();
    let lab = Lab::start(&admin);
    let token = token(&admin, "exporter", "bench");
    let (login, pin) = (lab.text("login"), lab.text("caPin"));
    let user = User::new();
    let arguments = [
        "login",
        &login,
        "--exporter",
        "bench",
        "--ca-pin",
        &pin,
        "--token",
    ];
    let with = |token: &str| user.jmp(&[&arguments[..], &[token]].concat());
    with("garbage").fails(1, &["does not accept this token for exporter bench"]);
    let done = with(&token);
    assert_eq!(done.code, 0, "{done:?}");
    let text = std::fs::read_to_string(user.path("config/exporters/bench.yaml")).unwrap();
    assert!(
        text.contains("kind: ExporterConfig") && text.contains(&token),
        "{text}"
    );
}

#[test]
fn a_backup_is_put_back_and_a_damaged_store_is_refused() {
    let admin = User::new();
    let lab = Lab::start(&admin);
    token(&admin, "client", "before");
    let backup = admin.path("home/lab.db");
    let backup = backup.to_str().unwrap();
    // While it runs: from its host, and from anywhere.
    let saved = store_command(&admin, &["controller", "backup", backup]);
    assert_eq!(saved.code, 0, "{saved:?}");
    let saved = admin.jmp(&["admin", "backup", "second.db"]);
    assert_eq!(saved.code, 0, "{saved:?}");
    store_command(&admin, &["controller", "backup", backup]).fails(1, &["exists already"]);
    token(&admin, "client", "after");
    store_command(&admin, &["controller", "restore", backup]).fails(1, &["uses it", "stop"]);
    lab.stop();

    let again = store_command(&admin, &["controller", "backup", "stopped.db"]);
    assert_eq!(again.code, 0, "{again:?}");
    let seen = store_command(&admin, &["controller", "inspect", "-o", "json"]);
    let seen: Value = serde_json::from_str(seen.succeeds()).unwrap();
    assert_eq!(seen["objects"]["Client"], 2);
    let dump = store_command(&admin, &["controller", "dump", backup]);
    assert!(dump.succeeds().contains("before") && !dump.stdout.contains("\"after\""));
    let restored = store_command(&admin, &["controller", "restore", backup]);
    assert_eq!(restored.code, 0, "{restored:?}");
    assert!(
        restored.stderr.contains("before-restore") && restored.stderr.contains("revoke"),
        "{restored:?}"
    );

    // Started again, it knows what it knew then; the administrator's token is still good.
    let lab = Lab::start(&admin);
    let config = std::fs::read_to_string(admin.path("config/admin.yaml")).unwrap();
    assert!(config.contains(&lab.text("endpoint")));
    let clients = admin.jmp(&["admin", "get", "clients", "-o", "name"]);
    assert_eq!(clients.succeeds().trim(), "client.jumpstarter.dev/before");
    lab.stop();

    damage(&data(&admin).join("store.sqlite"));
    let ended = run_to_end(&mut controller(&admin));
    ended.fails(1, &["damaged", "jmp controller restore"]);
    store_command(&admin, &["controller", "inspect"]).fails(1, &["damaged"]);
    let restored = store_command(&admin, &["controller", "restore", backup]);
    assert_eq!(restored.code, 0, "{restored:?}");
    Lab::start(&admin).stop();
    store_command(&admin, &["controller", "inspect", "nothing.db"]).fails(1, &["no store at"]);

    // Cut to nothing, it is no store that begins anew.
    std::fs::write(data(&admin).join("store.sqlite"), "").unwrap();
    let ended = run_to_end(&mut controller(&admin));
    ended.fails(1, &["is empty", "jmp controller restore"]);
}

#[test]
fn a_credential_that_is_no_longer_good_is_not_recommended() {
    let admin = User::new();
    let lab = Lab::start(&admin);
    assert!(lab.text("adminConfig").contains("config"));
    let rotated = admin.jmp(&[
        "admin",
        "rotate",
        "administrator",
        "root",
        "--out",
        "new.yaml",
    ]);
    assert_eq!(rotated.code, 0, "{rotated:?}");
    lab.stop();
    let lab = Lab::start(&admin);
    assert_eq!(lab.text("adminCredential"), "no longer good");
}

#[test]
fn a_port_in_use_is_said_to_be() {
    let user = User::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let options = [
        "--listen",
        "--login-listen",
        "--metrics-listen",
        "--router-listen",
    ];
    for option in options {
        let mut command = Command::new(program());
        command
            .env_clear()
            .envs(user.environment())
            .env("JMP_DATA_DIRECTORY", data(&user))
            .args(["controller", "run"]);
        for other in options {
            let at = if other == option {
                &address
            } else {
                "127.0.0.1:0"
            };
            command.args([other, at]);
        }
        run_to_end(&mut command).fails(1, &["cannot listen on", &address, option]);
    }
}

#[test]
fn the_policy_of_the_documentation_can_be_applied() {
    let admin = User::new();
    let _lab = Lab::start(&admin);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/distributed.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks = page.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    let policies: Vec<&str> = blocks
        .filter(|block| block.contains("kind: ExporterAccessPolicy"))
        .collect();
    assert!(!policies.is_empty());
    for policy in policies {
        let file = admin.write("home/policies.yaml", policy);
        let applied = admin.jmp(&["admin", "apply", "-f", file.to_str().unwrap()]);
        assert!(applied.succeeds().contains(" created"), "{applied:?}");
    }
}

#[test]
fn a_certificate_from_elsewhere_serves_controller_login_and_router() {
    let user = User::new();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let chain = user.write("home/chain.pem", &made.cert.pem());
    let key = user.write("home/key.pem", &made.signing_key.serialize_pem());
    // The certificate is for a name, so the address has to be known beforehand.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let endpoint = format!("localhost:{}", address.port());
    let roots = ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", &chain);
    let mut command = Command::new(program());
    command
        .env_clear()
        .envs(user.environment())
        .env("JMP_DATA_DIRECTORY", data(&user))
        .env(roots.0, roots.1)
        .args(["controller", "run", "-o", "json", "--endpoint", &endpoint])
        .args(["--listen", &address.to_string()])
        .args(["--login-listen", "127.0.0.1:0", "--metrics-listen", "none"])
        .args(["--router-listen", "127.0.0.1:0"])
        .arg("--tls-cert")
        .arg(&chain)
        .arg("--tls-key")
        .arg(&key);
    let lab = Lab::run(&mut command);
    assert!(lab.said["caPin"].is_null(), "{}", lab.said);
    let run = |arguments: &[&str]| {
        let mut command = user.command();
        command.env(roots.0, roots.1).args(arguments);
        Ended::of(&mut command)
    };
    let deadline = Instant::now() + LIMIT;
    loop {
        let status = run(&["admin", "status"]);
        if status.stdout.contains(", connected,") {
            break;
        }
        assert!(Instant::now() < deadline, "no router: {status:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let made = run(&["admin", "create", "client", "hello", "--nointeractive"]);
    assert_eq!(made.code, 0, "{made:?}");
    let token = run(&["admin", "rotate", "client", "hello"]).stdout;
    let login = lab.text("login").replace("127.0.0.1", "localhost");
    let token = token.trim();
    let done = run(&["login", &login, "--token", token, "--unsafe"]);
    assert_eq!(done.code, 0, "{done:?}");
    let refused = user.jmp(&["get", "exporters"]);
    refused.fails(1, &["certificate", "--ca-pin"]);
    lab.stop();
}

/// Tears pages in the middle of the file.
fn damage(store: &Path) {
    let mut bytes = std::fs::read(store).unwrap();
    let end = bytes.len();
    bytes[4096..end].fill(0xa5);
    std::fs::write(store, bytes).unwrap();
}

fn run_to_end(command: &mut Command) -> Ended {
    let mut process = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + LIMIT;
    while process.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            process.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = process.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
