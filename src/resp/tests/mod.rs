mod decode;
mod encode;
mod number;
