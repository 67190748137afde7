"""Keys and values between a state's rows and the files of the library."""
