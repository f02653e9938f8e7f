"""nbkit: which preference pairs should a language model be trained on?"""
