//! Draws a QR code as a PNG image, which an authenticator app scans.

use qrcodegen::{QrCode, QrCodeEcc};
use zeroize::Zeroizing;

use crate::error::Error;

/// The side length in pixels of a module, which is one of the squares of a QR code.
const MODULE: usize = 8;
/// The width in modules of the light border around the code: ISO/IEC 18004, "quiet zone".
const QUIET_ZONE: usize = 4;

/// Encodes a text as a QR code in a grey-scale PNG image.
///
/// # Errors
/// [`Error::InternalFailure`] if the text is longer than the about 2,300 bytes that a QR code can
/// hold.
pub fn png(text: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).map_err(|_| Error::InternalFailure)?;
    let modules = usize::try_from(code.size()).map_err(|_| Error::InternalFailure)?;
    let side = (modules + 2 * QUIET_ZONE) * MODULE;
    let pixels: Zeroizing<Vec<u8>> = Zeroizing::new(
        (0..side * side)
            .map(|pixel| {
                // What is outside the code is light, so the zone needs no case of its own.
                let module = |at: usize| (at / MODULE) as i32 - QUIET_ZONE as i32;
                match code.get_module(module(pixel % side), module(pixel / side)) {
                    true => 0,
                    false => u8::MAX,
                }
            })
            .collect(),
    );
    // The image is smaller than its pixels, so the buffer never moves and leaves no copy behind.
    let mut image = Zeroizing::new(Vec::with_capacity(side * side));
    let side = u32::try_from(side).map_err(|_| Error::InternalFailure)?;
    let mut encoder = png::Encoder::new(&mut *image, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder
        .write_header()
        .and_then(|mut writer| {
            writer.write_image_data(&pixels)?;
            writer.finish()
        })
        .map_err(|_| Error::InternalFailure)?;
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_quiet_zone_and_the_codes_dark_corner() {
        let image = png("otpauth://totp/Brevet:alice?secret=GEZDGNBVGY3TQOJQ").unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&**image))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let side = info.width as usize;
        assert_eq!(info.width, info.height);
        let at = |x: usize, y: usize| pixels[y * side + x];
        let zone = QUIET_ZONE * MODULE;
        assert!((0..side).all(|x| (0..zone).all(|y| at(x, y) == 255 && at(y, x) == 255)));
        // The finder pattern in the upper left corner: seven dark modules, then a light one.
        assert!((zone..zone + 7 * MODULE).all(|x| at(x, zone) == 0));
        assert_eq!(at(zone + 7 * MODULE, zone), 255);
        assert!(png(&"x".repeat(3_000)).is_err());
    }
}
