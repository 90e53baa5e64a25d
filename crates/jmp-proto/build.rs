//! Compiles the .proto files without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "grpc/health/v1/health.proto",
        "jumpstarter/v1/common.proto",
        "jumpstarter/v1/exporter.proto",
        "jumpstarter/v1/router.proto",
        "jumpstarter/v1/controller.proto",
        "jumpstarter/v1/kubernetes.proto",
        "jumpstarter/client/v1/client.proto",
        "jmp/v1/admin.proto",
        "jmp/v1/describe.proto",
        "jmp/v1/lease.proto",
        "jmp/v1/router_control.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed=proto/{file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
