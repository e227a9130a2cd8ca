//! Sizes of networks that can be: a mistake in a pipeline file or in a model's file ends in a message, before memory is asked for.

/// The most channels of a layer, in tokens or maps. The published networks have up to 3,072.
const MOST_CHANNELS: usize = 8192;

/// The longest side of a patch.
const LONGEST_SIDE: usize = 1024;

/// The most values of a map of a patch: 32 GiB of 32-bit floats, eight times that of the published Swin UNETR on 128³.
const MOST_VALUES: usize = 1 << 33;

/// Refuses layers without channels, and with more than any memory holds.
pub(crate) fn check_channels(what: &str, channels: &[usize]) -> Result<(), String> {
    match channels.iter().find(|channels| !(1..=MOST_CHANNELS).contains(*channels)) {
        Some(wrong) => Err(format!("{what}: {wrong} channels; expected 1 to {MOST_CHANNELS} in every layer")),
        None => Ok(()),
    }
}

/// Refuses patches whose maps of `channels` no memory holds.
pub(crate) fn check_patch(patch: &[usize], channels: usize) -> Result<(), String> {
    if let Some(side) = patch.iter().find(|side| **side > LONGEST_SIDE) {
        return Err(format!("patch: {patch:?}: a side of {side}; expected at most {LONGEST_SIDE}"));
    }
    let values = patch.iter().fold(channels, |values, side| values.saturating_mul(*side));
    if values > MOST_VALUES {
        return Err(format!(
            "patch: {patch:?}: a map of {channels} channels would take {} GiB; take smaller patches or fewer features",
            values >> 28
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{DualUNet2dConfig, SwinUnetrConfig, TeacherConfig, UNet3dConfig};

    #[test]
    fn sizes_that_no_memory_holds_are_refused_by_name() {
        let unet = |features: [usize; 6], patch| TeacherConfig::UNet(UNet3dConfig { features }).check(patch).unwrap_err();
        assert!(unet([0, 16, 32, 64, 128, 16], [64; 3]).contains("features: 0 channels; expected 1 to"));
        assert!(unet([16, 16, 32, 64, 1 << 40, 16], [64; 3]).contains("features: 1099511627776 channels"));
        assert!(unet([16, 16, 32, 64, 128, 16], [64, 64, 1 << 40]).contains("a side of 1099511627776"));
        assert!(unet([512, 16, 32, 64, 128, 16], [512; 3]).contains("a map of 512 channels would take 256 GiB"));
        let swin = SwinUnetrConfig { feature_size: usize::MAX / 2, ..Default::default() };
        assert!(TeacherConfig::SwinUnetr(swin).check([64; 3]).unwrap_err().contains("feature_size: "));
        assert!(DualUNet2dConfig { features: [16, 32, 64, 0, 256, 128] }.check().is_err());
        assert!(DualUNet2dConfig { features: [16, 32, 64, 128, 256, 128] }.check().is_ok());
    }
}
