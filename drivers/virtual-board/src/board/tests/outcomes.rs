//! Power, storage, faults and speed, around a running board.

use std::io::Write;

use super::player::{Player, config, image_options, small_image};
use crate::board::{
    Board, BoardConfig, FaultsConfig, ImageOptions, Input, MuxSide, StageKind, StorageError,
    build_image, write_image,
};

#[test]
fn power_follows_the_stages() {
    let mut player = Player::new(config(), small_image());
    assert_eq!(player.board.measure(player.now).volts, 0.0);
    player.input(Input::Mux(MuxSide::Dut)).input(Input::PowerOn);
    let mut amps = vec![player.board.measure(player.now).amps];
    for text in ["stop autoboot", "devtmpfs", "login: "] {
        player.expect(text);
        amps.push(player.board.measure(player.now).amps);
    }
    assert!(
        amps[0] < amps[1] && amps[1] < amps[2] && amps[2] > amps[3],
        "{amps:?}"
    );
    player.send("root\recho\r");
    assert!(player.board.measure(player.now).amps > 0.6, "busy");
    player.send("poweroff\r").settle();
    assert!(player.board.measure(player.now).amps < 0.04, "halted");
    player.input(Input::PowerOff);
    assert_eq!(player.board.measure(player.now).amps, 0.0);
}

#[test]
fn failing_boots_fail_in_each_way() {
    let mut seen = Vec::new();
    for seed in 0..20 {
        let faults = FaultsConfig {
            seed,
            does_not_boot: 1.0,
            ..Default::default()
        };
        let mut player = Player::started(BoardConfig { faults, ..config() });
        player.settle();
        assert_eq!(
            player.board.stage(),
            StageKind::Hung,
            "seed {seed}:\n{}",
            player.transcript()
        );
        let last = player
            .transcript()
            .trim_end()
            .lines()
            .last()
            .unwrap_or("(silent)")
            .to_owned();
        seen.push(last);
    }
    seen.sort();
    seen.dedup();
    insta::assert_snapshot!(seen.join("\n"));
}

#[test]
fn a_noisy_line_garbles_some_bytes_and_repeats_for_its_seed() {
    let play = |seed, garbles_serial| {
        let faults = FaultsConfig {
            seed,
            garbles_serial,
            ..Default::default()
        };
        let mut player = Player::started(BoardConfig {
            faults,
            autoboot_seconds: -1,
            ..config()
        });
        player.settle();
        player.console
    };
    let (clean, noisy) = (play(1, 0.0), play(1, 0.05));
    assert_eq!(clean.len(), noisy.len());
    let wrong = clean
        .iter()
        .zip(&noisy)
        .filter(|(one, two)| one != two)
        .count();
    assert!(
        wrong > 0 && wrong < clean.len() / 5,
        "{wrong} of {}",
        clean.len()
    );
    assert_eq!(noisy, play(1, 0.05));
    assert_ne!(noisy, play(2, 0.05));
}

#[test]
fn speed_shortens_the_time_and_not_the_story() {
    let play = |speed| {
        let mut player = Player::started(BoardConfig { speed, ..config() });
        player.expect("login: ");
        (player.now, player.transcript())
    };
    let ((slow, slow_story), (fast, fast_story)) = (play(1.0), play(100.0));
    assert_eq!(slow_story, fast_story);
    let ratio = slow.as_secs_f64() / fast.as_secs_f64();
    assert!((99.0..101.0).contains(&ratio), "{ratio}");
}

#[test]
fn a_file_is_written_by_the_host_and_booted_by_the_board() {
    let mut file = tempfile::tempfile().unwrap();
    let board = Board::new(config(), Box::new(file.try_clone().unwrap())).unwrap();
    let mut player = Player::with_board(board);
    player.board.check_host_write(64 << 10).unwrap();
    let too_large = player.board.check_host_write(u64::MAX).unwrap_err();
    assert!(matches!(
        too_large,
        StorageError::TooSmall {
            capacity: 1_073_741_824,
            ..
        }
    ));
    write_image(&image_options(), &mut file).unwrap();
    file.flush().unwrap();
    let mut magic = [0; 8];
    assert_eq!(player.board.read_storage(0, &mut magic).unwrap(), 8);
    assert_eq!(&magic, b"JMPBOARD");
    player
        .input(Input::Mux(MuxSide::Dut))
        .input(Input::PowerOn)
        .expect("demo login: ");
    for error in [
        player.board.check_host_write(1).unwrap_err(),
        player.board.read_storage(0, &mut magic).unwrap_err(),
        player
            .board
            .replace_medium(Box::new(Vec::new()))
            .unwrap_err(),
    ] {
        assert!(
            matches!(
                error,
                StorageError::NotAtHost {
                    side: MuxSide::Dut,
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn a_large_image_is_hashed_a_piece_per_step() {
    let image = build_image(&ImageOptions {
        length: 9 << 20,
        ..image_options()
    })
    .unwrap();
    let mut player = Player::switched_on(config(), image);
    player.expect("sha256+ ");
    let mut steps = 0;
    while !player.transcript().contains("Starting kernel") {
        // Far too late: each step still does one piece only.
        player.now += std::time::Duration::from_secs(10);
        player.input(Input::Tick);
        steps += 1;
    }
    assert_eq!(steps, 3);
    assert!(
        player.board.next_deadline().unwrap() <= player.now,
        "more is due at once"
    );
    player.expect("login: ");
}

#[test]
fn an_image_without_a_host_name_takes_that_of_the_board() {
    let image = build_image(&ImageOptions {
        hostname: String::new(),
        ..image_options()
    })
    .unwrap();
    let config = BoardConfig {
        hostname: "bench-7".to_owned(),
        ..config()
    };
    Player::switched_on(config, image)
        .expect("bench-7 login: ")
        .run("root", "root@bench-7:~# ");
}

#[test]
fn a_flash_attempt_fails_as_configured() {
    let faults = FaultsConfig {
        flash_fails: 1.0,
        ..Default::default()
    };
    let mut board =
        Board::new(BoardConfig { faults, ..config() }, Box::new(small_image())).unwrap();
    let attempt = board.flash_attempt(Some(1000));
    let fault = attempt.check(1000).unwrap_err();
    assert!(
        fault.offset < 1000
            && fault
                .to_string()
                .contains("injected by `faults.flash_fails`")
    );
    let mut board = Board::new(config(), Box::new(small_image())).unwrap();
    board.flash_attempt(None).check(u64::MAX).unwrap();
}

#[test]
fn dmesg_repeats_what_the_kernel_said() {
    let mut player = Player::started(config());
    player
        .expect("login: ")
        .run("root", "# ")
        .input(Input::Mux(MuxSide::Off));
    player
        .run("dmesg", "Linux version 6.18.2")
        .expect("mounted filesystem")
        .expect("card 0001 removed")
        .expect("# ");
}
