//! Whole sessions, as a person sees them.

use std::time::Duration;

use super::player::{Player, config, small_image};
use crate::board::{BoardConfig, HEADER_LENGTH, Input, MuxSide, Password, StageKind, parse_header};

const SHELL: &str = "root@demo:~# ";

fn logged_in(config: BoardConfig) -> Player {
    let mut player = Player::started(config);
    player.expect("login: ").send("root\r").expect(SHELL);
    player
}

#[test]
fn boots_by_itself_and_logs_in() {
    let mut player = Player::started(config());
    player.expect("demo login: ").run("root", SHELL);
    assert!(
        (Duration::from_secs(6)..Duration::from_secs(9)).contains(&player.now),
        "{:?}",
        player.now
    );
    for line in [
        "uname -a",
        "cat /etc/os-release",
        "cat /proc/cmdline",
        "cat /proc/uptime",
        "ls /",
        "hostname",
        "nonsense",
        "echo $?",
        "false || echo \"was $?\" && true; echo $?",
    ] {
        player.run(line, SHELL);
    }
    player.send("poweroff\r").settle();
    assert_eq!(
        player.stages,
        [
            StageKind::Rom,
            StageKind::UBoot,
            StageKind::Linux,
            StageKind::Halted
        ]
    );
    insta::assert_snapshot!(player.transcript());
}

#[test]
fn stops_in_uboot_and_takes_a_variable_to_the_kernel() {
    let mut player = Player::at_uboot(config(), small_image());
    for line in [
        "version",
        "help",
        "printenv",
        "printenv bootargs none",
        "setenv bootargs ${bootargs} quiet demo=1",
        "printenv bootargs",
        "mmc info",
        "bdinfo",
        "hash sha256 mmc",
        "hash",
        "nosuch",
        "echo $? 'a;b'",
    ] {
        player.run(line, "\n=> ");
    }
    player
        .send("boot\r")
        .expect("login: ")
        .run("root", SHELL)
        .run("cat /proc/cmdline", SHELL);
    insta::assert_snapshot!(player.transcript());
}

#[test]
fn uboot_prompt_edits_lines() {
    let mut player = Player::at_uboot(config(), small_image());
    player
        .send("versionx\x08\r")
        .expect("=> ")
        .send("garbage\x15echo one\r")
        .expect("=> ");
    player
        .send("half a line\x03")
        .expect("=> ")
        .send("echo 'open\r")
        .expect("=> ")
        .send("\r\n\r\n")
        .settle();
    insta::assert_snapshot!(player.transcript().split_once("stop autoboot").unwrap().1);
}

#[test]
fn environment_is_kept_only_when_saved() {
    let mut player = Player::at_uboot(config(), small_image());
    player.run("setenv kept yes; saveenv; setenv lost yes", "\n=> ");
    player
        .input(Input::PowerOff)
        .input(Input::PowerOn)
        .expect("stop autoboot")
        .send(" ")
        .expect("=> ");
    player.run("echo ${kept}-${lost}", "yes-").expect("=> ");
    player.board.reset();
    assert_eq!(
        (player.board.is_powered(), player.board.mux()),
        (false, MuxSide::Host)
    );
    player.input(Input::Mux(MuxSide::Dut)).input(Input::PowerOn);
    player
        .expect("default environment")
        .expect("stop autoboot")
        .send(" ")
        .expect("=> ");
    player.run("printenv kept", "not defined");
}

#[test]
fn bootdelay_is_honoured() {
    for (delay, keys, expected) in [
        (-1, "", "=> "),
        (-2, "  ", "login: "),
        (0, "", "login: "),
        (0, "x", "=> "),
    ] {
        let mut player = Player::started(BoardConfig {
            autoboot_seconds: delay,
            ..config()
        });
        player.wait(Duration::from_millis(200)).send(keys).settle();
        let transcript = player.transcript();
        assert!(
            transcript.ends_with(expected.trim_end()),
            "bootdelay {delay} keys {keys:?}:\n{transcript}"
        );
    }
}

#[test]
fn a_variable_that_runs_itself_ends() {
    let mut player = Player::at_uboot(config(), small_image());
    player
        .run("setenv loop 'echo again; run loop'", "=> ")
        .run("run loop", "too many commands");
    player
        .expect("=> ")
        .run("run missing", "\"missing\" not defined");
    player
        .run(
            "setenv bomb 'run bomb; run bomb; run bomb; run bomb'; run bomb",
            "too many commands",
        )
        .expect("=> ");
}

#[test]
fn a_corrupted_payload_is_a_bad_hash() {
    let mut image = small_image();
    image[HEADER_LENGTH + 40_000] ^= 1;
    let mut player = Player::switched_on(config(), image);
    player.settle();
    assert_eq!(player.board.stage(), StageKind::UBoot);
    insta::assert_snapshot!(player.transcript());
}

#[test]
fn an_empty_card_is_no_boot_device_until_one_is_inserted() {
    let mut player = Player::switched_on(config(), vec![0; 4096]);
    player
        .expect("try again")
        .input(Input::Mux(MuxSide::Host))
        .send("x")
        .expect("try again");
    player
        .board
        .replace_medium(Box::new(small_image()))
        .unwrap();
    player
        .input(Input::Mux(MuxSide::Dut))
        .expect("stop autoboot");
    insta::assert_snapshot!(player.transcript());
}

#[test]
fn a_damaged_header_and_a_truncated_payload_have_their_own_outcomes() {
    let mut image = small_image();
    image[60] ^= 1;
    Player::switched_on(config(), image)
        .expect("bad image header (digest mismatch)")
        .expect("no boot device");
    let mut image = small_image();
    image.truncate(10_000);
    Player::switched_on(config(), image)
        .expect("image truncated: 65536 bytes expected, 10000 on the card")
        .expect("=> ");
}

#[test]
fn a_password_is_asked_for_and_not_echoed() {
    let root_password = Some(Password::new("s3cret"));
    let mut player = Player::started(BoardConfig {
        root_password,
        hostname: "unused".to_owned(),
        ..config()
    });
    player
        .expect("login: ")
        .send("root\r")
        .expect("Password: ")
        .send("wrong\r")
        .expect("Login incorrect")
        .expect("login: ");
    player
        .send("guest\r")
        .expect("Password: ")
        .send("s3cret\r")
        .expect("Login incorrect")
        .expect("login: ");
    player
        .send("root\r")
        .expect("Password: ")
        .send("s3cret\r")
        .expect(SHELL);
    player.send("exit\r").expect("login: ");
    let transcript = player.transcript();
    assert!(!transcript.contains("s3cret"));
    insta::assert_snapshot!(transcript.split_once("system message bus").unwrap().1);
}

#[test]
fn a_card_that_goes_away_is_an_input_output_error() {
    let mut player = logged_in(config());
    player.input(Input::Mux(MuxSide::Host));
    for line in [
        "cat /etc/os-release",
        "ls /",
        "sha256sum /dev/mmcblk0p1",
        "cat /proc/version",
    ] {
        player.run(line, SHELL);
    }
    player
        .input(Input::Mux(MuxSide::Dut))
        .run("cat /etc/hostname", "Input/output error")
        .expect(SHELL);
    player
        .run("reboot", "demo login: ")
        .run("root", SHELL)
        .run("cat /etc/hostname", "demo\r\n");
    insta::assert_snapshot!(
        player
            .transcript()
            .split_once("demo login: root")
            .unwrap()
            .1
    );
}

#[test]
fn a_card_that_goes_away_early_stops_the_boot() {
    let mut player = Player::at_uboot(config(), small_image());
    player
        .input(Input::Mux(MuxSide::Off))
        .run("mmc info", "no card present")
        .expect("=> ");
    player.run("bootm", "no card present").expect("=> ");
    player
        .input(Input::Mux(MuxSide::Dut))
        .send("bootm\r")
        .expect("sha256+ ")
        .input(Input::Mux(MuxSide::Host));
    player.expect("read failed").expect("=> ");
    player
        .input(Input::Mux(MuxSide::Dut))
        .send("bootm\r")
        .expect("devtmpfs")
        .input(Input::Mux(MuxSide::Host))
        .settle();
    assert_eq!(player.board.stage(), StageKind::Hung);
    player.expect("Unable to mount root fs");
}

#[test]
fn the_digest_of_the_card_is_that_of_its_header() {
    let digest: String = parse_header(&small_image())
        .unwrap()
        .payload_digest
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    logged_in(config())
        .run(
            "sha256sum /dev/mmcblk0p1",
            &format!("{digest}  /dev/mmcblk0p1\r\n"),
        )
        .expect(SHELL);
    Player::at_uboot(config(), small_image())
        .run("hash sha256 mmc", &format!("==> {digest}\r\n"))
        .expect("=> ");
}

#[test]
fn running_commands_can_be_interrupted_and_typed_ahead_of() {
    let mut player = logged_in(config());
    player
        .send("sleep 1000; echo no\r")
        .wait(Duration::from_secs(1))
        .send("lost\x03")
        .expect("^C")
        .expect(SHELL);
    player.run("echo $?", "130\r\n").expect(SHELL);
    player
        .send("sleep 2\r")
        .send("echo waited\r")
        .expect("\r\nwaited\r\n")
        .expect(SHELL);
}
