"""The browser page, built with Gradio."""
