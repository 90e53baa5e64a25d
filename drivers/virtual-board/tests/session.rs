//! The board through a real session and the client library.

mod support;

use std::time::{Duration, Instant};

use jmp_driver::ErrorKind;
use serde_json::json;
use support::{Lab, board, image, limited, registry};

/// Much faster than a board, slow enough for a script to stop the countdown.
fn fast() -> serde_json::Value {
    json!({"speed": 20, "autoboot_seconds": 30})
}

#[tokio::test]
async fn the_whole_story() {
    let lab = Lab::new(fast()).await;
    let image = image(3 << 20);
    assert_eq!(lab.measure().await, (0.0, 0.0));
    let mut console = lab.boot(&image).await;

    console.expect("stop autoboot").await;
    console.send(" ").await.expect("=> ").await;
    console
        .send("setenv bootargs ${bootargs} demo=1\r")
        .await
        .expect("=> ")
        .await;
    console.send("boot\r").await.expect("sha256+ OK").await;
    console.expect("demo login: ").await;
    console.send("root\r").await.expect("# ").await;
    console.send("cat /proc/cmdline\r").await;
    assert!(console.expect("# ").await.contains("rootwait demo=1"));
    console.send("cat /etc/os-release\r").await;
    assert!(console.expect("# ").await.contains("4.2"));

    let (volts, amps) = lab.measure().await;
    assert!(
        (4.9..5.1).contains(&volts) && (0.2..0.7).contains(&amps),
        "{volts} V {amps} A"
    );
    lab.power().off().await.unwrap();
    assert_eq!(lab.measure().await, (0.0, 0.0));
    lab.storage().host().await.unwrap();
    assert!(lab.read().await.unwrap() == image);
    limited(lab.session.close()).await;
}

#[tokio::test]
async fn shipped_clients_find_the_children_by_their_classes() {
    let lab = Lab::new(json!({})).await;
    let classes: Vec<_> = lab
        .client
        .root()
        .walk()
        .iter()
        .map(|device| (device.path().to_owned(), device.class().to_owned()))
        .collect();
    let class = |path: &str, class: &str| (path.to_owned(), class.to_owned());
    assert_eq!(
        classes[1..],
        [
            class(
                "board",
                "jumpstarter_driver_composite.client.CompositeClient"
            ),
            class("board.power", "jumpstarter_driver_power.client.PowerClient"),
            class(
                "board.serial",
                "jumpstarter_driver_pyserial.client.PySerialClient"
            ),
            class(
                "board.storage",
                "jumpstarter_driver_opendal.client.StorageMuxFlasherClient"
            ),
        ]
    );
}

#[tokio::test]
async fn the_storage_is_readable_by_one_side_at_a_time() {
    let lab = Lab::new(fast()).await;
    let image = image(64 << 10);
    lab.write(&image).await.unwrap();
    for (at_dut, side) in [(true, "the board (DUT)"), (false, "neither side (off)")] {
        if at_dut {
            lab.storage().dut().await.unwrap();
        } else {
            lab.storage().off().await.unwrap();
        }
        let error = lab.read().await.unwrap_err();
        let text = format!(
            "the host cannot read the storage: it is connected to {side}; switch it to the host first"
        );
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::Device, text.as_str())
        );
        let error = lab.write(&image).await.unwrap_err();
        assert!(
            error
                .message()
                .starts_with("the host cannot write to the storage"),
            "{error}"
        );
    }
    lab.storage().host().await.unwrap();
    assert!(
        lab.read().await.unwrap() == image,
        "a refused write changed nothing"
    );

    // The other way round: the board does not boot from a card that is at the host.
    let mut console = lab.console().await;
    lab.power().on().await.unwrap();
    console.expect("no card detected").await;
}

#[tokio::test]
async fn an_image_that_is_too_large_or_breaks_off_is_refused() {
    let lab = Lab::new(json!({"storage_size": 1 << 20})).await;
    let error = lab.write(&image((1 << 20) + 1)).await.unwrap_err();
    assert!(
        error
            .message()
            .starts_with("1048577 bytes do not fit on the storage, which holds 1048576"),
        "{error}"
    );
    lab.write(&image(1 << 20)).await.unwrap();
}

#[tokio::test]
async fn moving_the_storage_ends_a_write() {
    let lab = Lab::new(fast()).await;
    let storage = lab.storage();
    let (handle, mut stream) = storage.handle().open_resource(None).await.unwrap();
    let writing = tokio::spawn({
        let storage = lab.storage();
        async move { storage.write(handle).await }
    });
    let chunk = bytes::Bytes::from(vec![0; 1 << 20]);
    futures::SinkExt::send(&mut stream.writer, chunk.clone())
        .await
        .unwrap();
    // A second writer is refused as soon as the first one has begun.
    let refused = limited(async {
        loop {
            if let Err(error) = lab.write(&[]).await {
                return error;
            }
        }
    });
    assert!(
        refused
            .await
            .message()
            .starts_with("somebody else is writing")
    );
    storage.dut().await.unwrap();
    storage.host().await.unwrap();
    // The block before the move may still have gone through; the next one does not.
    while futures::SinkExt::send(&mut stream.writer, chunk.clone())
        .await
        .is_ok()
        && !writing.is_finished()
    {
        tokio::task::yield_now().await;
    }
    let error = limited(writing).await.unwrap().unwrap_err();
    assert!(
        error.message().starts_with("the storage was moved"),
        "{error}"
    );
    lab.write(&image(4096)).await.unwrap();
}

#[tokio::test]
async fn a_failing_flash_says_where_and_the_next_one_may_do() {
    let faults = json!({"seed": 7, "flash_fails": 0.5});
    let lab = Lab::new(json!({"faults": faults})).await;
    let image = image(256 << 10);
    let mut failed = 0;
    for _ in 0..10 {
        match lab.write(&image).await {
            Ok(()) => assert!(lab.read().await.unwrap() == image),
            Err(error) => {
                assert!(error.message().contains("fault injected"), "{error}");
                let stored = lab.read().await.unwrap();
                let text = format!("at byte {} failed", stored.len());
                assert!(error.message().contains(&text), "{error}");
                assert!(stored == image[..stored.len()]);
                failed += 1;
            }
        }
    }
    assert!((1..10).contains(&failed), "{failed}");
}

#[tokio::test]
async fn a_board_that_does_not_boot_hangs_and_says_so_in_the_log() {
    let lab = Lab::new(json!({"speed": 100, "faults": {"does_not_boot": 1.0}})).await;
    let _console = lab.boot(&image(64 << 10)).await;
    let mut logs = lab.client.logs().await.unwrap();
    let lines = limited(async {
        let mut lines = Vec::new();
        loop {
            let line = futures::StreamExt::next(&mut logs).await.unwrap().unwrap();
            lines.push(line.message);
            if lines
                .last()
                .is_some_and(|line| line.contains("board hangs"))
            {
                return lines;
            }
        }
    })
    .await;
    assert_eq!(
        lines[0],
        "[driver.VirtualBoard] storage connected to the board (DUT)"
    );
    assert_eq!(lines[1], "[driver.VirtualBoard] power on");
    assert_eq!(lines[2], "[driver.VirtualBoard] board runs its boot ROM");
}

#[tokio::test]
async fn a_noisy_line_repeats_its_noise() {
    let transcript = async || {
        let config = json!({
            "speed": 1000, "autoboot_seconds": -1,
            "faults": {"seed": 3, "garbles_serial": 0.02},
        });
        let lab = Lab::new(config).await;
        let mut console = lab.boot(&image(4096)).await;
        console.everything(Duration::from_millis(500)).await
    };
    let (first, second) = (transcript().await, transcript().await);
    assert!(
        first.len() > 400 && !first.contains("Loading Environment from SPIFlash..."),
        "{first}"
    );
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_corrupted_image_does_not_boot() {
    let lab = Lab::new(json!({"speed": 100, "autoboot_seconds": 0})).await;
    let mut image = image(64 << 10);
    image[40_000] ^= 1;
    let mut console = lab.boot(&image).await;
    console.expect("Bad hash value").await;
}

#[tokio::test]
async fn large_images_go_fast() {
    let lab = Lab::new(json!({})).await;
    let image = vec![0x5a; 64 << 20];
    let start = Instant::now();
    lab.write(&image).await.unwrap();
    let seconds = start.elapsed().as_secs_f64();
    // 0.9.0 takes three seconds; this one less than one, in a debug build on an idle machine.
    assert!(seconds < 5.0, "{seconds} s");
    assert_eq!(lab.read().await.unwrap().len(), image.len());
}

#[tokio::test]
async fn closing_the_session_ends_the_console_and_the_board() {
    let lab = Lab::new(fast()).await;
    let mut console = lab.boot(&image(4096)).await;
    console.expect("BROM").await;
    limited(lab.session.close()).await;
    assert!(lab.power().on().await.is_err());
}

#[tokio::test]
async fn a_wrong_configuration_names_the_key() {
    for (config, text) in [
        (
            json!({"speed": 0}),
            "`speed` is 0: use a value from 0.01 to 1000000",
        ),
        (json!({"spede": 1}), "spede"),
        (
            json!({"faults": {"flash_fails": 2}}),
            "`faults.flash_fails` is 2",
        ),
    ] {
        let (registry, root) = (registry(), board(config));
        let opened = jmp_exporter::Session::open(&registry, &root, Default::default());
        let error = match opened.await {
            Err(error) => error.to_string(),
            Ok(_) => panic!("opened with a configuration that should say {text}"),
        };
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test]
async fn the_parts_pass_the_suites_of_their_interfaces() {
    let lab = Lab::new(fast()).await;
    jmp_interfaces::power::behaviour::check(lab.power()).await;
    let traits = jmp_interfaces::storage_mux::behaviour::Traits {
        fixed_size: false,
        exclusive: true,
    };
    let storage = lab.storage().handle().clone();
    jmp_interfaces::storage_mux::behaviour::check(storage, traits).await;
}
