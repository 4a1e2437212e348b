//! Writes the generated seeds to `fuzz/seeds/TARGET/NAME`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let seeds = ringway_fuzz::seeds::all();
    for (target, name, bytes) in &seeds {
        let folder = root.join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)?;
    }
    println!("{} seeds written to {}", seeds.len(), root.display());
    Ok(())
}
