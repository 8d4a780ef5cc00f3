//! A QR code on a terminal and in a picture. Light on dark, with both colours set where the
//! terminal can, so that a camera reads it whatever theme is on.

use qrcode::{Color, EcLevel, QrCode};

/// Modules left light around the code in a terminal. The standard asks for four; phones are
/// content with less, and lines are scarce.
const QUIET_IN_TERMINAL: usize = 2;
/// Source: ISO/IEC 18004, 5.3.8.
const QUIET_IN_PICTURE: usize = 4;
/// Of one module in a picture, in pixels.
const MODULE_PIXELS: usize = 8;

/// The modules of a code with what is left free around it.
struct Modules {
    side: usize,
    quiet: usize,
    colors: Vec<Color>,
}

impl Modules {
    /// The smallest code: a screen needs no redundancy.
    fn of(text: &str, quiet: usize) -> Option<Modules> {
        let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
        let side = code.width() + 2 * quiet;
        Some(Modules { side, quiet, colors: code.into_colors() })
    }

    /// Light outside of the code too.
    fn is_light(&self, row: usize, column: usize) -> bool {
        let width = self.side - 2 * self.quiet;
        let inside = |at: usize| at.checked_sub(self.quiet).filter(|at| *at < width);
        match (inside(row), inside(column)) {
            (Some(row), Some(column)) => self.colors[row * width + column] == Color::Light,
            _ => true,
        }
    }
}

/// Lines for a terminal of `rows` lines. Where a code of half blocks (two modules a character) is
/// too high, it is of sextants (six modules a character), which not every font has.
pub(super) fn lines(text: &str, rows: usize) -> Option<Vec<String>> {
    let modules = Modules::of(text, QUIET_IN_TERMINAL)?;
    let half_blocks_fit = modules.side.div_ceil(2) <= rows;
    let (height, width) = if half_blocks_fit { (2, 1) } else { (3, 2) };
    let line = |top: usize| {
        let cell = |left: usize| {
            let lit = |down, right| usize::from(modules.is_light(top + down, left + right));
            if half_blocks_fit {
                [' ', '▀', '▄', '█'][lit(0, 0) + 2 * lit(1, 0)]
            } else {
                let cells = (0..6).map(|at| lit(at / 2, at % 2) << at).sum();
                sextant(cells)
            }
        };
        (0..modules.side).step_by(width).map(cell).collect()
    };
    Some((0..modules.side).step_by(height).map(line).collect())
}

/// The character of which bit `n` of `cells` says whether its cell `n` is lit, from left to right,
/// then down. Source: the chart of Unicode 13, U+1FB00; those it left out were there before.
fn sextant(cells: usize) -> char {
    match cells {
        0 => ' ',
        21 => '▌',
        42 => '▐',
        63 => '█',
        _ => {
            let earlier = 1 + usize::from(21 < cells) + usize::from(42 < cells);
            let code = u32::try_from(0x1_fb00 + cells - earlier).unwrap_or_default();
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
    }
}

/// A PNG file.
pub(super) fn picture(text: &str) -> Option<Vec<u8>> {
    let modules = Modules::of(text, QUIET_IN_PICTURE)?;
    let side = modules.side * MODULE_PIXELS;
    let pixels: Vec<u8> = (0..side * side)
        .map(|at| {
            let (row, column) = (at / side / MODULE_PIXELS, at % side / MODULE_PIXELS);
            if modules.is_light(row, column) { u8::MAX } else { 0 }
        })
        .collect();
    let side = u32::try_from(side).ok()?;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&pixels).ok()?;
    writer.finish().ok()?;
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As long as WhatsApp's: a reference, three keys in base64, the kind of client.
    fn code() -> String {
        format!("2@{},{},1", "aB3/".repeat(24), [&"xY+9".repeat(11)[..]; 3].join(","))
    }

    fn expected() -> Vec<Vec<bool>> {
        let modules = Modules::of(&code(), QUIET_IN_TERMINAL).expect("fits");
        let modules = &modules;
        let row = |row| (0..modules.side).map(|column| modules.is_light(row, column)).collect();
        (0..modules.side).map(row).collect()
    }

    /// What a camera sees: each character as two or three rows of one or two modules.
    fn seen(lines: &[String], height: usize) -> Vec<Vec<bool>> {
        let sextants: Vec<usize> = (1..63).filter(|cells| ![21, 42].contains(cells)).collect();
        let cells = |character: char| match (character, height) {
            (' ', _) => 0,
            ('█', 2) => 0b1111,
            ('▀', 2) => 0b0011,
            ('▄', 2) => 0b1100,
            ('█', 3) => 63,
            ('▌', 3) => 21,
            ('▐', 3) => 42,
            (other, _) => sextants[other as usize - 0x1_fb00],
        };
        let wide = height - 1;
        let mut seen = Vec::new();
        for line in lines {
            for down in 0..height {
                let part =
                    |of: char| (0..wide).map(move |right| cells(of) >> (2 * down + right) & 1 == 1);
                seen.push(line.chars().flat_map(part).collect());
            }
        }
        seen
    }

    fn check(rows: usize, height: usize) {
        let lines = lines(&code(), rows).expect("fits");
        let (seen, expected) = (seen(&lines, height), expected());
        assert!(lines.len() <= rows && lines.iter().all(|line| line.chars().count() <= 80));
        for (row, expected) in expected.iter().enumerate() {
            assert_eq!(expected[..], seen[row][..expected.len()], "row {row}");
            // What is over at the edges is as light as the rest of the frame.
            assert!(seen[row][expected.len()..].iter().all(|lit| *lit));
        }
        assert!(seen[expected.len()..].iter().flatten().all(|lit| *lit));
    }

    #[test]
    fn h68_the_code_fits_a_terminal_of_24_lines_with_room_for_words() {
        check(21, 3);
        check(31, 2);
    }

    #[test]
    fn sextants_are_those_of_unicode() {
        // BLOCK SEXTANT-1, -12, -1235, -23456.
        let named = [(1, '\u{1fb00}'), (3, '\u{1fb02}'), (23, '\u{1fb15}'), (62, '\u{1fb3b}')];
        for (cells, character) in named {
            assert_eq!(character, sextant(cells));
        }
    }

    #[test]
    fn the_picture_shows_the_same_code() {
        let file = picture(&code()).expect("fits");
        let mut reader =
            png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("a picture");
        let mut pixels = vec![0; reader.output_buffer_size().expect("small")];
        let frame = reader.next_frame(&mut pixels).expect("a frame");
        let modules = Modules::of(&code(), QUIET_IN_PICTURE).expect("fits");
        let side = modules.side * MODULE_PIXELS;
        assert_eq!((side, side), (frame.width as usize, frame.height as usize));
        for (at, pixel) in pixels.iter().enumerate().take(side * side) {
            let is_light = modules.is_light(at / side / MODULE_PIXELS, at % side / MODULE_PIXELS);
            assert_eq!(is_light, *pixel == u8::MAX, "pixel {at}");
        }
    }

    #[test]
    fn what_no_code_can_hold_is_none() {
        assert!(lines(&"x".repeat(4000), 24).is_none() && picture(&"x".repeat(4000)).is_none());
    }
}
