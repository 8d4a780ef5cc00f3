//! What a phone's camera makes of the codes that `pair` shows: the screen as a terminal paints it,
//! the picture as a viewer does, both read by a decoder that knows nothing of ours.

use std::fs;
use std::io::Cursor;

use super::{OWNER, World};
use crate::support::{Kind, Terminal, wait_for};

/// Pixels of a character's cell. Twice as high as wide, as terminals have it.
const CELL: (usize, usize) = (12, 24);
/// What the program paints with: white on black, whatever the theme.
const WHITE_ON_BLACK: &str = "\x1b[38;5;231;48;5;16m";
const AS_BEFORE: &str = "\x1b[0m";
const LIGHT: u8 = u8::MAX;
const DARK: u8 = 0;

/// Shades of grey, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Image {
    width: usize,
    shades: Vec<u8>,
}

impl Image {
    fn height(&self) -> usize {
        self.shades.len() / self.width
    }

    fn painted((width, height): (usize, usize), shade: impl Fn(usize, usize) -> u8) -> Image {
        let pixel = |at| shade(at % width, at / width);
        Image { width, shades: (0..width * height).map(pixel).collect() }
    }

    fn at(&self, x: usize, y: usize) -> u8 {
        self.shades[y * self.width + x]
    }

    /// All that is written in the codes that are to be seen.
    fn read(&self) -> Vec<String> {
        let shade = |x, y| self.at(x, y);
        let (width, height) = (self.width, self.height());
        let mut seen = rqrr::PreparedImage::prepare_from_greyscale(width, height, shade);
        let texts = seen.detect_grids().into_iter().map(|code| code.decode());
        texts.filter_map(Result::ok).map(|(_, text)| text).collect()
    }

    /// Where the code is: left, top, right, bottom; the last two are the first without.
    fn code(&self) -> (usize, usize, usize, usize) {
        let (width, height) = (self.width, self.height());
        let column = |x: &usize| (0..height).any(|y| self.at(*x, y) == DARK);
        let row = |y: &usize| (0..width).any(|x| self.at(x, *y) == DARK);
        let ends = |first: Option<usize>, last: Option<usize>| {
            (first.expect("something dark"), last.expect("something dark") + 1)
        };
        let (left, right) = ends((0..width).find(column), (0..width).rfind(column));
        let (top, bottom) = ends((0..height).find(row), (0..height).rfind(row));
        (left, top, right, bottom)
    }

    /// Width and height of a module.
    fn module(&self) -> (usize, usize) {
        let (left, top, right, bottom) = self.code();
        // The code begins with the corner of a dark square of seven modules.
        let edge = (left..right).take_while(|x| self.at(*x, top) == DARK).count();
        let side = (top..bottom).take_while(|y| self.at(left, *y) == DARK).count();
        (edge / 7, side / 7)
    }

    /// How many modules are left light around the code: left, top, right, bottom.
    fn quiet_zone(&self) -> [usize; 4] {
        let ((left, top, right, bottom), (wide, high)) = (self.code(), self.module());
        [left / wide, top / high, (self.width - right) / wide, (self.height() - bottom) / high]
    }

    /// The code, each module as its middle is.
    fn modules(&self) -> Image {
        let ((left, top, right, bottom), (wide, high)) = (self.code(), self.module());
        let size = ((right - left) / wide, (bottom - top) / high);
        let middle = |x, y| (left + wide * x + wide / 2, top + high * y + high / 2);
        Image::painted(size, |x, y| {
            let (x, y) = middle(x, y);
            self.at(x, y)
        })
    }

    /// In front of something of that shade.
    fn before(&self, around: u8) -> Image {
        let margin = 4 * CELL.1;
        let inside = |x: usize, y: usize| {
            let (x, y) = (x.checked_sub(margin)?, y.checked_sub(margin)?);
            (x < self.width && y < self.height()).then(|| self.at(x, y))
        };
        let size = (self.width + 2 * margin, self.height() + 2 * margin);
        Image::painted(size, |x, y| inside(x, y).unwrap_or(around))
    }

    fn inverted(&self) -> Image {
        Image::painted((self.width, self.height()), |x, y| LIGHT - self.at(x, y))
    }

    /// The code alone.
    fn cropped(&self) -> Image {
        let (left, top, right, bottom) = self.code();
        Image::painted((right - left, bottom - top), |x, y| self.at(left + x, top + y))
    }

    /// That a phone reads `text` in it, whatever is around it.
    fn check(&self, text: &str) {
        for around in [LIGHT, DARK] {
            assert_eq!([text], self.before(around).read()[..], "before {around}");
        }
        // The reader is no more lenient than a phone.
        assert_eq!(Vec::<String>::new(), self.inverted().before(LIGHT).read());
        assert_eq!(Vec::<String>::new(), self.cropped().before(DARK).read());
    }
}

/// The lines of the code as a terminal paints them, of all that it was told to show.
fn screen(shown: &str) -> Image {
    let lines: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix(WHITE_ON_BLACK)?.strip_suffix(AS_BEFORE))
        .collect();
    let columns = lines.first().expect("a code").chars().count();
    let characters: Vec<char> = lines.concat().chars().collect();
    assert_eq!(columns * lines.len(), characters.len(), "each line is as long");
    let (wide, high) = CELL;
    Image::painted((columns * wide, lines.len() * high), |x, y| {
        let character = characters[y / high * columns + x / wide];
        if is_lit(character, x % wide, y % high) { LIGHT } else { DARK }
    })
}

/// Whether a terminal paints this pixel of a character's cell in the foreground. Source: the names
/// of the characters in Unicode, Block Elements and Symbols for Legacy Computing.
fn is_lit(character: char, x: usize, y: usize) -> bool {
    let (wide, high) = CELL;
    let (right, lower) = (wide / 2 <= x, high / 2 <= y);
    match character {
        ' ' => false,
        '█' => true,
        '▀' => !lower,
        '▄' => lower,
        '▌' => !right,
        '▐' => right,
        '\u{1fb00}'..='\u{1fb3b}' => {
            let order = character as usize - 0x1_fb00 + 1;
            // The two halves are not repeated among them.
            let cells = order + usize::from(20 < order) + usize::from(40 < order);
            let cell = 2 * (3 * y / high) + usize::from(right);
            cells >> cell & 1 == 1
        }
        other => panic!("`{other}` is in no code"),
    }
}

/// A file as a viewer shows it.
fn picture(file: Vec<u8>) -> Image {
    let mut reader = png::Decoder::new(Cursor::new(file)).read_info().expect("a picture");
    let mut shades = vec![0; reader.output_buffer_size().expect("small")];
    let frame = reader.next_frame(&mut shades).expect("a frame");
    assert_eq!(
        (png::ColorType::Grayscale, png::BitDepth::Eight),
        (frame.color_type, frame.bit_depth)
    );
    shades.truncate(frame.buffer_size());
    Image { width: frame.width as usize, shades }
}

/// Links by what a terminal of `rows` lines and a picture show.
fn check(rows: u16) {
    let world = World::new(Kind::Fake);
    let command = world.home.command(&["pair", "--png", "code.png"]);
    let mut terminal = Terminal::start_at(command, 80, rows);
    let code = world.shown("qr");
    let shown = terminal.until("the next follows by itself");
    let screen = screen(&shown);
    screen.check(&code);
    let quiet = screen.quiet_zone();
    assert!(quiet.iter().all(|modules| 2 <= *modules), "{quiet:?}");
    let file = world.home.path("code.png");
    wait_for("a picture", || file.metadata().is_ok_and(|file| 0 < file.len()));
    let picture = picture(fs::read(&file).expect("a file"));
    picture.check(&code);
    assert_eq!([4; 4], picture.quiet_zone());
    // A reader would make up for a few that are wrong.
    assert!(screen.modules() == picture.modules(), "the screen and the picture differ");
    // It is the code that the phone takes, too.
    world.server.scan(OWNER, &screen.read()[0]).expect("the code is good");
    terminal.expect("linked as +");
    assert_eq!(Some(0), terminal.end());
}

#[test]
fn h68_a_camera_reads_the_code_on_a_high_terminal_and_in_the_picture() {
    check(60);
}

#[test]
fn h68_a_camera_reads_the_code_on_a_terminal_of_24_lines_and_in_the_picture() {
    check(24);
}
