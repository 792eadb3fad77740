//! Compiles the .proto files in Rust, so that the machine needs no protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=agent");
    let descriptors = protox::compile(["agent/v1/agent.proto"], ["."])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .skip_debug([".bellwether.agent.v1.KeyMaterial"])
        // Agents store processes as readable JSON.
        .message_attribute(
            ".bellwether.agent.v1.Process",
            "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]",
        )
        .compile_fds(descriptors)?;
    Ok(())
}
