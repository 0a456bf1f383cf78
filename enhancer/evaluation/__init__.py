"""What an evaluation is made of: images and protocols, figures of one image, the judging network, intervals,
the report.
"""
